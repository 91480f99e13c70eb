// The oracle: every operation as the formula reads, one plain loop each, sums in f64.
//
//   std::unique_ptr<Kernels> kernels = MakeReferenceKernels();
//
// Others are compared with it, and a small model can run on it. It is not fast, and its bits may
// differ between math libraries. Denormals are kept.
#ifndef ORRERY_KERNELS_REFERENCE_REFERENCE_KERNELS_H_
#define ORRERY_KERNELS_REFERENCE_REFERENCE_KERNELS_H_

#include <memory>
#include <string_view>

#include "kernels/kernels.h"

namespace orrery {

class ReferenceKernels : public Kernels {
 public:
  std::string_view family() const override { return "reference-1"; }
  std::string_view variant() const override { return "plain"; }

  // matmul.cc
  absl::StatusOr<std::unique_ptr<Weight>> MakeWeight(const WeightSource& source,
                                                     ProductFormat format,
                                                     WeightFormat held) override;
  absl::StatusOr<std::unique_ptr<Weight>> MapWeight(const WeightImage& image) override;
  absl::StatusOr<size_t> WeightBytes(const WeightSource& source, ProductFormat format,
                                     WeightFormat held) const override;
  void Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) override;
  void MatmulHeads(ConstMatrix x, int x_head_stride,
                   absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                   int out_head_stride) override;
  void FeedForward(absl::Span<const FeedForwardArgs> all) override;

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
  void Attend(absl::Span<const AttendArgs> all) override;

  // gate.cc
  void Gate(ConstMatrix logits, const GateParams& params, const int32_t* forced_ids,
            int32_t* expert_ids, float* weights) override;

  // rows.cc
  void EncodeRows(ConstMatrix rows, RowFormat format, std::byte* encoded) override;
  void DecodeRows(const std::byte* encoded, RowFormat format, Matrix rows) override;
};

std::unique_ptr<Kernels> MakeReferenceKernels();

}  // namespace orrery

#endif  // ORRERY_KERNELS_REFERENCE_REFERENCE_KERNELS_H_
