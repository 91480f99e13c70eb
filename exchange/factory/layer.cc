#include "exchange/factory/layer.h"

#ifdef ORRERY_CUDA
#include "device/cuda/cuda_device.h"
#include "exchange/cuda_ipc/cuda_ipc_layer.h"
#include "exchange/nccl/nccl_layer.h"
#else
#include "absl/strings/str_cat.h"
#endif

namespace orrery {

#ifdef ORRERY_CUDA
namespace {

EdgeOptions EdgesFor(int num_peers) {
  EdgeOptions options;
  options.max_edges = 2 * kNumLanes * num_peers;
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeNcclLayerOfThisBuild(int num_peers, int gpu) {
  const NcclOptions options = {.device_index = gpu, .edges = EdgesFor(num_peers)};
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeCudaDevice(options.device_index));
  return MakeNcclLayer(options, std::move(device));
}

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeCudaIpcLayerOfThisBuild(int num_peers, int gpu) {
  const CudaIpcOptions options = {.device_index = gpu, .edges = EdgesFor(num_peers)};
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeCudaDevice(options.device_index));
  return MakeCudaIpcLayer(options, std::move(device));
}
#else
namespace {

absl::Status NotInThisBuild(std::string_view exchange) {
  return absl::FailedPreconditionError(
      absl::StrCat("exchange: ", std::string(exchange),
                   " needs CUDA, which this build does not have; build with --config=cuda, or "
                   "choose auto, grpc or "
                   "shm"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeNcclLayerOfThisBuild(int, int) {
  return NotInThisBuild("nccl");
}

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeCudaIpcLayerOfThisBuild(int, int) {
  return NotInThisBuild("cuda_ipc");
}
#endif

}  // namespace orrery
