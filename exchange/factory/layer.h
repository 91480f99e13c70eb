// The layer that carries rows between GPUs, if this build has one: exchange/nccl on a GPU.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<ChannelLayer> layer, MakeLayerOfThisBuild(/*gpu=*/0));
//
// Errors: FAILED_PRECONDITION, saying how to build, without --config=cuda; UNAVAILABLE without a GPU;
// those of exchange/nccl/nccl_layer.h.
#ifndef ORRERY_EXCHANGE_FACTORY_LAYER_H_
#define ORRERY_EXCHANGE_FACTORY_LAYER_H_

#include <memory>

#include "base/status.h"
#include "exchange/channel.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeLayerOfThisBuild(int gpu);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_FACTORY_LAYER_H_
