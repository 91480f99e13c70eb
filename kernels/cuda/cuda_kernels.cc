#include "kernels/cuda/cuda_kernels.h"

#include "absl/strings/str_cat.h"
#include "device/cuda/cuda_device.h"
#include "kernels/cuda/make_cuda_kernels.h"

namespace orrery {
namespace {

// Since then there is mma.sync for bf16.
constexpr int kFirstMajor = 8;

// 480 spans of a row of 128 heads of 512 values: four blocks of threads for each of 132 multiprocessors
// take 132 of them, so a round is long enough to keep all busy.
constexpr size_t kPartialBytes = 128 << 20;

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
  if (properties.major < kFirstMajor) {
    return absl::FailedPreconditionError(absl::StrCat("cuda:", index, " ", properties.name, " is ",
                                                      architecture,
                                                      ": the cuda kernels need sm80 or later"));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeCudaDevice(index));
  const ScheduleLimits limits = {.shared_bytes = properties.sharedMemPerBlockOptin,
                                 .num_multiprocessors = properties.multiProcessorCount,
                                 .partial_bytes = kPartialBytes};
  const Instructions instructions = InstructionsOf(properties.major, properties.minor);
  const char* const family = instructions == Instructions::kWgmma ? "cuda-wgmma-1-" : "cuda-mma-1-";
  return std::make_unique<CudaKernels>(std::move(device), cuda_stream, instructions, limits,
                                       absl::StrCat(family, architecture), architecture);
}

}  // namespace orrery
