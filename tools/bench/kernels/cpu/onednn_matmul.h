// The peer: a matrix product by oneDNN, in the layout that oneDNN likes best; of bf16, or where it has
// no such product for this processor, of the same values as f32.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<OneDnnMatmul> peer,
//                    OneDnnMatmul::Create({.num_rows = 16, .num_inputs = 2048, .num_outputs = 704, .num_copies = 12},
//                                         /*num_threads=*/2, weight, rows));
//   RETURN_IF_ERROR(peer->Run());      // each call multiplies with the next copy of the weight
//
// Rows are in that format already (ours come as f32), results f32, sums f32.
// Threads: one owner; Run uses as many OpenMP threads as Create was told.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_CPU_ONEDNN_MATMUL_H_
#define ORRERY_TOOLS_BENCH_KERNELS_CPU_ONEDNN_MATMUL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "base/status.h"
#include "tools/bench/kernels/bench_target.h"

namespace orrery {

class OneDnnMatmul : public PeerProduct {
 public:
  // weight [num_outputs, num_inputs] and rows [num_rows, num_inputs], both bf16.
  static absl::StatusOr<std::unique_ptr<OneDnnMatmul>> Create(const Shape& shape, int num_threads,
                                                              absl::Span<const uint16_t> weight,
                                                              absl::Span<const uint16_t> rows);

  // Else it multiplies f32.
  virtual bool has_bf16() const = 0;
  // Of the last Run: [num_rows, num_outputs].
  virtual absl::Span<const float> result() const = 0;
};

// "oneDNN 2.6.3".
std::string OneDnnVersion();

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_CPU_ONEDNN_MATMUL_H_
