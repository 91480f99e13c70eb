// The layers that carry rows between GPUs, if this build has them: on this GPU.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<ChannelLayer> layer, MakeNcclLayerOfThisBuild(num_peers, gpu));
//
// With memory for twice the connections that so many peers have, as lost ones may take their time to close.
//
// Errors: FAILED_PRECONDITION, saying how to build, without --config=cuda; UNAVAILABLE without a GPU;
// those of exchange/nccl/nccl_layer.h and exchange/cuda_ipc/cuda_ipc_layer.h.
#ifndef ORRERY_EXCHANGE_FACTORY_LAYER_H_
#define ORRERY_EXCHANGE_FACTORY_LAYER_H_

#include <memory>

#include "base/status.h"
#include "exchange/channel.h"

namespace orrery {

// For channels of gRPC.
absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeNcclLayerOfThisBuild(int num_peers, int gpu);
// For channels of shared memory.
absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeCudaIpcLayerOfThisBuild(int num_peers, int gpu);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_FACTORY_LAYER_H_
