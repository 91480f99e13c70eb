#include "exchange/factory/layer.h"

#ifdef ORRERY_CUDA
#include "device/cuda/cuda_device.h"
#include "exchange/nccl/nccl_layer.h"
#endif

namespace orrery {

#ifdef ORRERY_CUDA
absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeLayerOfThisBuild(int gpu) {
  const NcclOptions options = {.device_index = gpu};
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeCudaDevice(options.device_index));
  return MakeNcclLayer(options, std::move(device));
}
#else
absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeLayerOfThisBuild(int gpu) {
  return absl::FailedPreconditionError(
      "exchange: nccl needs CUDA and NCCL, which this build does not have; build with "
      "--config=cuda, "
      "or choose auto, grpc or shm");
}
#endif

}  // namespace orrery
