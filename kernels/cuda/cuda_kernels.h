// Kernels on one stream of one GPU. Each .cu.cc file holds kernels and, below them, the methods that
// check shapes, stage what lies in host memory, and launch; files are named like those of kernels/cpu.
//
// Threads: one object serves one thread. A call returns when its work is queued.
#ifndef ORRERY_KERNELS_CUDA_CUDA_KERNELS_H_
#define ORRERY_KERNELS_CUDA_CUDA_KERNELS_H_

#include <cuda_runtime.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "device/cuda/cuda_stream.h"
#include "device/device.h"
#include "kernels/cuda/attention_jobs.h"
#include "kernels/cuda/device_places.h"
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/matmul_jobs.h"
#include "kernels/cuda/matmul_kernels.h"
#include "kernels/cuda/staging.h"
#include "kernels/kernels.h"

namespace orrery {

// What schedules, and never bits, depend on.
struct ScheduleLimits {
  size_t shared_bytes = 0;  // that a block of threads may ask for
  int num_multiprocessors = 0;
  // Spans of attention lie in so much memory before they are combined, or in what one row needs.
  size_t partial_bytes = 0;
};

class CudaKernels : public Kernels {
 public:
  // Names: see family() and variant().
  CudaKernels(CudaStream* stream, Instructions instructions, const ScheduleLimits& limits,
              std::string family, std::string variant)
      : stream_(stream),
        instructions_(instructions),
        limits_(limits),
        family_(std::move(family)),
        variant_(std::move(variant)),
        staging_(stream),
        operands_(stream),
        inner_(stream),
        attend_partials_(stream) {}

  std::string_view family() const override { return family_; }
  std::string_view variant() const override { return variant_; }

  // cuda_kernels.cc: memory
  size_t ScratchBytes(const ScratchLimits& limits) const override;
  absl::Status ReserveScratch(const ScratchLimits& limits) override;
  absl::StatusOr<std::unique_ptr<RowPlaces>> MakeRowPlaces(const RowPlaceLimits& limits) override;
  absl::StatusOr<size_t> WeightBytes(const WeightSource& source, ProductFormat format,
                                     WeightFormat held) const override;

  // matmul.cu.cc
  absl::StatusOr<std::unique_ptr<Weight>> MakeWeight(const WeightSource& source,
                                                     ProductFormat format,
                                                     WeightFormat held) override;
  absl::StatusOr<std::unique_ptr<Weight>> MapWeight(const WeightImage& image) override;
  void Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) override;
  void MatmulHeads(ConstMatrix x, int x_head_stride,
                   absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                   int out_head_stride) override;
  void FeedForward(absl::Span<const FeedForwardArgs> all) override;

  // elementwise.cu.cc
  void Embed(DType dtype, const void* table, absl::Span<const int32_t> ids, Matrix out) override;
  void RmsNorm(ConstMatrix x, const float* weight, float eps, Matrix out) override;
  void Rope(Matrix x, int num_heads, int head_stride, int first_position, RopePairing pairing,
            const RopeTable& table) override;
  void RopeBatch(Matrix x, int num_heads, int head_stride, const RowPlaces& places,
                 RopePairing pairing, const RopeTable& table) override;
  void Add(ConstMatrix y, Matrix x) override;
  void Copy(ConstMatrix from, Matrix to) override;
  void WeightedSum(ConstMatrix rows, const float* weights, int topk, Matrix out) override;
  void LogSoftmax(ConstMatrix logits, Matrix out) override;

  // attention.cu.cc
  void AppendKv(ConstMatrix rows, const KvCacheView& cache, absl::Span<const int32_t> block_ids,
                int first_position) override;
  void Attend(absl::Span<const AttendArgs> all) override;
  void AppendKvBatch(ConstMatrix kv, const KvCacheView& cache, const RowPlaces& places) override;
  void AttendBatch(absl::Span<const AttendArgs> heads, const RowPlaces& places) override;

  // gate.cu.cc
  void Gate(ConstMatrix logits, const GateParams& params, const int32_t* forced_ids,
            int32_t* expert_ids, float* weights) override;

  // rows.cu.cc
  void EncodeRows(ConstMatrix rows, RowFormat format, std::byte* encoded) override;
  void DecodeRows(const std::byte* encoded, RowFormat format, Matrix rows) override;

 private:
  // A block needs a kernel's permission for more dynamic shared memory.
  static constexpr size_t kSharedBytesWithoutAsking = 48 << 10;

  struct Shape {
    int64_t num_blocks = 0;  // none: nothing is launched
    int num_threads = 0;
    size_t shared_bytes = 0;
  };
  template <typename... Params, typename... Args>
  void Launch(const char* name, void (*kernel)(Params...), const Shape& shape,
              const Args&... args) {
    if (shape.num_blocks == 0) return;
    stream_->MakeCurrent();
    if (shape.shared_bytes > kSharedBytesWithoutAsking) {
      stream_->Keep(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(shape.shared_bytes)),
                    name);
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(shape.num_blocks));
    config.blockDim = dim3(shape.num_threads);
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = stream_->handle();
    stream_->Keep(cudaLaunchKernelEx(&config, kernel, Params(args)...), name);
  }

  // matmul.cu.cc: a call collects its jobs, then makes the operands, then multiplies.
  struct ProductJobs {
    std::vector<GateUpJob> gate_up;
    std::vector<MatmulJob> matmul;
  };
  void BeginJobs(size_t num_jobs, int64_t operand_bytes);
  // Where x will lie as the weight's product reads it.
  Operand AddOperand(ConstMatrix x, const DeviceWeight& weight);
  void AddMatmul(const MatmulJob& job);
  ProductJobs& JobsOf(const DeviceWeight& weight);
  void MakeOperands();  // operands.cu.cc
  template <typename Job>
  void LaunchProducts(const char* name, const ProductKernel<Job>& kernel, std::vector<Job>& jobs);
  void GateUp();
  void Multiply();

  // attention.cu.cc: a call plans jobs and runs them in rounds, as many as their partial results need.
  struct PlannedAttend {
    AttendJob job;
    int schedule = 0;
    size_t first_block_id = 0;  // in block_ids_
  };
  static constexpr int kNumAttendSchedules = 5;
  int AttendScheduleFor(const AttendArgs& args, const AttendJob& job, int64_t num_row_spans) const;
  // placed: null where jobs know their positions and blocks.
  void RunAttendRound(const CudaRowPlaces* placed);
  // On the device, which fills in what is placed.
  const AttendJob* PutAttendJobs(const CudaRowPlaces* placed);

  CudaStream* stream_;
  Instructions instructions_;
  ScheduleLimits limits_;
  std::string family_;
  std::string variant_;

  Staging staging_;
  Scratch operands_;  // what products multiply, as they read it
  Scratch inner_;     // between gate and up, and down
  Scratch attend_partials_;
  std::byte* next_operand_ = nullptr;
  std::vector<OperandJob> operand_jobs_;
  std::vector<OperandJob> inner_jobs_;  // of what gate and up have yet to compute
  ProductJobs product_jobs_[2];         // by Instructions
  std::vector<PlannedAttend> planned_attends_;
  std::vector<AttendJob> attend_jobs_;
  std::vector<int32_t> block_ids_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_CUDA_KERNELS_H_
