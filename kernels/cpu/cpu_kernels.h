// The x86 family: one canonical order of every sum, the same bits on AVX-512, AVX2 and plain C++.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Kernels> kernels, MakeCpuKernels(CpuVariant::kBest));
//
// This class checks shapes, keeps scratch memory and cuts work into chunks; the loops are in the
// table that lane_kernels.h describes. The orders of the sums stand at the top of matmul-inl.h
// (products), attention-inl.h (softmax) and row_kernels-inl.h (norms).
//
// Threads: one object serves one thread, and may compute with several: no bit depends on how many. A
// call has finished when it returns. Errors: see
// kernels.h.
#ifndef ORRERY_KERNELS_CPU_CPU_KERNELS_H_
#define ORRERY_KERNELS_CPU_CPU_KERNELS_H_

#include <memory>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/cpu/cpu_threads.h"
#include "kernels/cpu/cpu_variant.h"
#include "kernels/cpu/expert_choice.h"
#include "kernels/cpu/lane_kernels.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/kernels.h"

namespace orrery {

class PackedWeight;

// Some heads of some rows of one attention.
struct AttendPiece {
  const AttendArgs* args;
  int64_t first_row;
  int64_t num_rows;
  int first_head;
  int num_heads;
};

class CpuKernels : public Kernels {
 public:
  CpuKernels(const LaneKernels* lanes, const CpuThreads& threads);

  std::string_view family() const override { return "x86-1"; }
  std::string_view variant() const override { return lanes_.name; }
  // At most.
  size_t ScratchBytes(const ScratchLimits& limits) const override;
  // The pages of a full group (kGroupRows) are touched, those of what is beyond when they are needed.
  absl::Status ReserveScratch(const ScratchLimits& limits) override;

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

 private:
  // What one product multiplies, before it is prepared.
  struct Input {
    ConstMatrix x;
    int padded;
    int64_t stride;
    bool round;
    int64_t offset;  // in prepared_
  };

  // Rows of all weights of a FeedForward that go together, to bound the scratch memory of a long prompt.
  static constexpr int64_t kGroupRows = 1024;

  // Of scratch memory; decoded and attend are of each thread, and gated is needed twice.
  struct ScratchValues {
    int64_t prepared = 0, gated = 0, decoded = 0, attend = 0;
  };
  static ScratchValues ValuesOf(const ScratchLimits& limits);
  // What a product of rows of so many inputs wants of MatmulJob::decoded.
  static int64_t DecodedValues(int64_t num_inputs);

  // matmul.cc: products are collected, then computed together.
  void AddProduct(ConstMatrix x, const PackedWeight& weight, const float* bias, Matrix out);
  // The same of rows that another product prepares.
  void AddProductOf(int64_t input_offset, const PackedWeight& weight, const float* bias,
                    Matrix out);
  void Multiply();
  void PrepareInputs();
  void FeedForwardPieces();

  // attention.cc
  // Of a thread, in values.
  static size_t AttendScratchValues(int attend_dims);
  void CutAttention(absl::Span<const AttendArgs> all, int heads);

  // Into how many parts work (in multiply-adds, or what takes as long) is worth cutting.
  int NumPartsWorth(int64_t work) const;
  // Calls body(thread, begin, end) for ranges that cover [0, num_units), on as many threads as the
  // work is worth, with denormals flushed.
  using RangeBody = absl::FunctionRef<void(int thread, int begin, int end)>;
  void Share(int64_t work, int num_units, RangeBody body);
  // The same for what goes through rows once: body(begin, end) for ranges of rows, of which each
  // reads and writes about so many values.
  void ShareRows(int64_t num_rows, int64_t values_per_row,
                 absl::FunctionRef<void(int64_t begin, int64_t end)> body);

  const LaneKernels& lanes_;
  ThreadPool pool_;

  std::vector<Input> inputs_;
  std::vector<int> first_row_after_;  // each input
  int64_t num_prepared_ = 0;
  std::vector<MatmulJob> products_;
  std::vector<int64_t> input_offsets_;  // of each product
  std::vector<int> first_unit_after_;   // each product
  int64_t num_decoded_ = 0;
  std::vector<FeedForwardArgs> pieces_;

  Scratch prepared_;              // matmul: rows, padded and rounded
  std::vector<Scratch> decoded_;  // matmul: MatmulJob::decoded, for each thread
  Scratch gated_;                 // feed-forward: gate
  Scratch raised_;                // feed-forward: up
  std::vector<AttendPiece> attend_pieces_;
  std::vector<Scratch> attention_;     // attention: see attention.cc, for each thread
  std::vector<Scratch> gate_scores_;   // for each thread
  std::vector<ExpertChoice> choices_;  // for each thread
};

// FAILED_PRECONDITION if this machine lacks the variant.
absl::StatusOr<std::unique_ptr<Kernels>> MakeCpuKernels(CpuVariant variant,
                                                        const CpuThreads& threads = {});

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_CPU_KERNELS_H_
