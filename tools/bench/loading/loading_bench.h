// How fast packed weights are ready, against how fast the disk gives the same bytes.
//
//   ASSIGN_OR_RETURN(std::vector<LoadingFigures> figures, MeasureLoading(options));
//
// In each round, one after the other and each with a cold page cache: the records of a shard and of a
// rank are read by one thread in the order of the file, through the page cache and past it, into a
// buffer that is used again; then they are loaded as a member loads them, checksums and all. So every
// ratio is of one round. The memory that loading takes is touched once before each round.
//
// Errors: those of the store; FAILED_PRECONDITION without one.
#ifndef ORRERY_TOOLS_BENCH_LOADING_LOADING_BENCH_H_
#define ORRERY_TOOLS_BENCH_LOADING_LOADING_BENCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/factory/make_kernels.h"
#include "model/numerics.h"

namespace orrery {

struct LoadingOptions {
  std::string model_dir;
  Backend backend = Backend::kCpu;
  CpuVariant cpu_variant = CpuVariant::kBest;
  Numerics numerics = {};
  int num_shards = 1;  // the first of so many is loaded
  int num_rounds = 5;
};

// Medians over rounds.
struct LoadingFigures {
  std::string what;  // "shard 0 of 4"
  int64_t num_bytes = 0;
  double seconds = 0;              // until it is ready
  double load_rate = 0;            // bytes per second
  double sequential_buffered = 0;  // bytes per second
  double sequential_direct = 0;
  double memory = 0;  // bytes per second at which the system gave fresh memory, before each round
  double ratio = 0;   // of loading to the faster of the two
};

// A shard (unless the model is dense), then a rank.
absl::StatusOr<std::vector<LoadingFigures>> MeasureLoading(const LoadingOptions& options);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_LOADING_LOADING_BENCH_H_
