// The x86 family: one canonical order of every sum, the same bits on AVX-512, AVX2 and plain C++.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Kernels> kernels, MakeCpuKernels(CpuVariant::kBest));
//
// This class checks shapes, keeps scratch memory and cuts work into chunks; the loops are in the
// table that lane_kernels.h describes. The orders of the sums stand at the top of matmul-inl.h
// (products), attention-inl.h (softmax) and row_kernels-inl.h (norms).
//
// Threads: one object serves one thread. A call has finished when it returns. Errors: see
// kernels.h.
#ifndef ORRERY_KERNELS_CPU_CPU_KERNELS_H_
#define ORRERY_KERNELS_CPU_CPU_KERNELS_H_

#include <memory>
#include <string_view>

#include "kernels/cpu/cpu_variant.h"
#include "kernels/cpu/expert_choice.h"
#include "kernels/cpu/lane_kernels.h"
#include "kernels/cpu/scratch.h"
#include "kernels/kernels.h"

namespace orrery {

class PackedWeight;

class CpuKernels : public Kernels {
 public:
  explicit CpuKernels(const LaneKernels* lanes) : lanes_(*lanes) {}

  std::string_view family() const override { return "x86-1"; }
  std::string_view variant() const override { return lanes_.name; }

  // matmul.cc
  absl::StatusOr<std::unique_ptr<Weight>> MakeWeight(const WeightSource& source,
                                                     ProductFormat format,
                                                     WeightFormat held) override;
  void Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) override;
  void MatmulHeads(ConstMatrix x, int x_head_stride,
                   absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                   int out_head_stride) override;
  void FeedForward(ConstMatrix x, const Weight& gate, const Weight& up, const Weight& down,
                   Matrix out) override;

  // elementwise.cc
  void Embed(DType dtype, const void* table, absl::Span<const int32_t> ids, Matrix out) override;
  void RmsNorm(ConstMatrix x, const float* weight, float eps, Matrix out) override;
  void Rope(Matrix x, int num_heads, int head_stride, int first_position, RopePairing pairing,
            const RopeTable& table) override;
  void Add(ConstMatrix y, Matrix x) override;
  void Copy(ConstMatrix from, Matrix to) override;
  void WeightedSum(ConstMatrix rows, const float* weights, int topk, Matrix out) override;
  void LogSoftmax(ConstMatrix logits, Matrix out) override;

  // attention.cc
  void AppendKv(ConstMatrix rows, const KvCacheView& cache, absl::Span<const int32_t> block_ids,
                int first_position) override;
  void Attend(const AttendArgs& args) override;

  // gate.cc
  void Gate(ConstMatrix logits, const GateParams& params, const int32_t* forced_ids,
            int32_t* expert_ids, float* weights) override;

  // rows.cc
  void EncodeRows(ConstMatrix rows, RowFormat format, std::byte* encoded) override;
  void DecodeRows(const std::byte* encoded, RowFormat format, Matrix rows) override;

 private:
  // Makes prepared_ of a few rows; multiplies it, as often as needed.
  void Prepare(const ConstMatrix& x, const PackedWeight& weight);
  void MultiplyPrepared(const PackedWeight& weight, const float* bias, const Matrix& out);

  const LaneKernels& lanes_;
  Scratch prepared_;   // matmul: rows, padded and rounded
  Scratch decoded_;    // matmul: a few panels of codes
  Scratch gated_;      // feed-forward: gate
  Scratch raised_;     // feed-forward: up
  Scratch attention_;  // attention: see attention.cc
  Scratch gate_scores_;
  ExpertChoice choice_;
};

// FAILED_PRECONDITION if this machine lacks the variant.
absl::StatusOr<std::unique_ptr<Kernels>> MakeCpuKernels(CpuVariant variant);

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_CPU_KERNELS_H_
