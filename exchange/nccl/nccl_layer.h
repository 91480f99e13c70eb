// The exchange between GPUs of different nodes: rows by NCCL, over gRPC channels (exchange/edge/edge_layer.h).
//
//   ASSIGN_OR_RETURN(std::unique_ptr<ChannelLayer> layer,
//                    MakeNcclLayer({.device_index = 0}, std::move(device)));
//
// Each connection has two communicators of two members, one for each direction, each with a stream of
// its own. So a dead peer takes nobody with it, and no two communicators ever wait for each other.
// Why pairs: ARCHITECTURE.md.
//
// Versions of NCCL must be equal; if not, the edge stays on the channel below, and says both.
//
// Errors: INVALID_ARGUMENT (options), RESOURCE_EXHAUSTED (memory), INTERNAL (no NCCL).
#ifndef ORRERY_EXCHANGE_NCCL_NCCL_LAYER_H_
#define ORRERY_EXCHANGE_NCCL_NCCL_LAYER_H_

#include <memory>

#include "base/status.h"
#include "device/device.h"
#include "exchange/edge/edge_layer.h"

namespace orrery {

struct NcclOptions {
  int device_index = 0;
  EdgeOptions edges = {};
};

// device: the one that device_index names. What the layer gave out may outlive it.
absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeNcclLayer(const NcclOptions& options,
                                                            std::unique_ptr<Device> device);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_NCCL_NCCL_LAYER_H_
