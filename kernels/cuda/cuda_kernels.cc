#include "kernels/cuda/cuda_kernels.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/make_cuda_kernels.h"
#include "kernels/cuda/matmul_jobs.h"
#include "kernels/cuda/matmul_kernels.h"
#include "kernels/cuda/tiled_weight.h"
#include "kernels/fp8_row_layout.h"

namespace orrery {
namespace {

// Since then there is mma.sync for bf16.
constexpr int kFirstMajor = 8;

// 480 spans of a row of 128 heads of 512 values: four blocks of threads for each of 132 multiprocessors
// take 132 of them, so a round is long enough to keep all busy.
constexpr size_t kPartialBytes = 128 << 20;

// What OperandBytes of matmul.cu.cc can come to: rows in whole instructions, inputs in whole groups of fp8
// codes, all in f32.
size_t MostOperandBytes(const ScratchLimits::Products& products) {
  const size_t num_rows = products.num_rows + int64_t{kOperandRows - 1} * products.num_weights;
  const size_t num_inputs =
      (products.num_inputs + kFp8GroupSize - 1) / kFp8GroupSize * kFp8GroupSize;
  return num_rows * num_inputs * sizeof(float);
}

// A feed-forward has a place for those of down beside those of gate and up.
size_t MostOperandBytes(const ScratchLimits& limits) {
  return MostOperandBytes(limits.products) + MostOperandBytes(limits.down_products);
}

size_t StagedBytes(const ScratchLimits& limits) {
  const size_t num_weights = limits.products.num_weights + limits.down_products.num_weights;
  const size_t num_blocks = limits.max_positions / kKvBlockTokens + 1;
  const size_t num_ids = num_blocks * limits.num_sequences * limits.attends_per_sequence;
  // Each twice: for the spans, and for what combines them.
  const size_t num_attend_jobs =
      size_t{2} * std::max(limits.num_sequences, kMaxPlacedRows) * limits.attends_per_sequence;
  return num_weights * (3 * sizeof(OperandJob) + sizeof(GateUpJob) + sizeof(MatmulJob)) +
         num_ids * sizeof(int32_t) + num_attend_jobs * sizeof(AttendJob) + (64 << 10);
}

size_t PartialBytes(const ScratchLimits& limits) {
  return limits.max_positions > kSpanTokens ? kPartialBytes : 0;
}

// A kernel that was compiled for other GPUs only does not run; one of which this GPU compiles an older PTX runs
// without the instructions that it is for.
absl::Status CheckCode(const std::string& gpu, const void* kernel, int architecture) {
  cudaFuncAttributes attributes = {};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error == cudaSuccess && attributes.ptxVersion >= architecture) return absl::OkStatus();
  cudaGetLastError();  // nothing was launched: forget it
  return absl::FailedPreconditionError(
      absl::StrCat(gpu, ": the cuda kernels need code for sm", architecture, ", this program has ",
                   error == cudaSuccess ? absl::StrCat("code for sm", attributes.ptxVersion)
                                        : absl::StrCat("none (", cudaGetErrorName(error), ")"),
                   ": build it for this GPU (third_party/cuda/cuda.bzl)"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernels>> MakeCudaKernels(Stream* stream) {
  auto* const cuda_stream = dynamic_cast<CudaStream*>(stream);
  if (cuda_stream == nullptr) {
    return absl::FailedPreconditionError("the cuda kernels need a stream of a cuda device");
  }
  const int index = cuda_stream->device_index();
  cudaDeviceProp properties;
  RETURN_IF_ERROR(
      CudaStatus(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties"));
  const std::string architecture = absl::StrCat("sm", properties.major, properties.minor);
  const std::string gpu = absl::StrCat("cuda:", index, " ", properties.name, " is ", architecture);
  if (properties.major < kFirstMajor) {
    return absl::FailedPreconditionError(
        absl::StrCat(gpu, ": the cuda kernels need sm80 or later"));
  }
  const ScheduleLimits limits = {.shared_bytes = properties.sharedMemPerBlockOptin,
                                 .num_multiprocessors = properties.multiProcessorCount,
                                 .partial_bytes = kPartialBytes};
  const Instructions instructions = InstructionsOf(properties.major, properties.minor);
  cuda_stream->MakeCurrent();
  RETURN_IF_ERROR(
      CheckCode(gpu, reinterpret_cast<const void*>(MmaProducts().matmul.kernel), 10 * kFirstMajor));
  if (instructions == Instructions::kWgmma) {
    RETURN_IF_ERROR(CheckCode(gpu, reinterpret_cast<const void*>(WgmmaProducts().matmul.kernel),
                              10 * properties.major));
  }
  const char* const family = instructions == Instructions::kWgmma ? "cuda-wgmma-1-" : "cuda-mma-1-";
  return std::make_unique<CudaKernels>(cuda_stream, instructions, limits,
                                       absl::StrCat(family, architecture), architecture);
}

size_t CudaKernels::ScratchBytes(const ScratchLimits& limits) const {
  size_t num_bytes = ReservedBytes(Staging::DeviceBytes(StagedBytes(limits)));
  for (const size_t scratch :
       {MostOperandBytes(limits), MostOperandBytes(limits.down_products), PartialBytes(limits)}) {
    if (scratch > 0) num_bytes += ReservedBytes(scratch);
  }
  if (limits.max_rows > 0) num_bytes += kGraphBytes;
  for (const int max_rows : {limits.max_rows, limits.max_second_rows}) {
    if (max_rows > 0) num_bytes += CudaRowPlaces::NumBytes({max_rows, limits.max_positions});
  }
  return num_bytes;
}

absl::Status CudaKernels::ReserveScratch(const ScratchLimits& limits) {
  staging_.Reserve(StagedBytes(limits));
  operands_.Get(MostOperandBytes(limits));
  inner_.Get(MostOperandBytes(limits.down_products));
  attend_partials_.Get(PartialBytes(limits));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<RowPlaces>> CudaKernels::MakeRowPlaces(
    const RowPlaceLimits& limits) {
  return CudaRowPlaces::Make(limits, &staging_, stream_);
}

absl::StatusOr<size_t> CudaKernels::WeightBytes(const WeightSource& source, ProductFormat format,
                                                WeightFormat held) const {
  return TiledWeight::ImageBytes(source, format, held, instructions_);
}

}  // namespace orrery
