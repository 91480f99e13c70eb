// The exchange between processes with GPUs of one node, or one GPU: rows are put into the other process's
// device memory, over channels of shared memory (exchange/edge/edge_layer.h).
//
//   ASSIGN_OR_RETURN(std::unique_ptr<ChannelLayer> layer,
//                    MakeCudaIpcLayer({.device_index = 0}, std::move(device)));
//
// Each connection has a window of four slots in each direction. The words say when rows lie in one, and when
// it is free again. Whether two processes can share memory shows when they form an edge: if not, it stays
// on the channel below and says why.
//
// Errors: INVALID_ARGUMENT (options), RESOURCE_EXHAUSTED (memory), INTERNAL (the device shares nothing).
#ifndef ORRERY_EXCHANGE_CUDA_IPC_CUDA_IPC_LAYER_H_
#define ORRERY_EXCHANGE_CUDA_IPC_CUDA_IPC_LAYER_H_

#include <memory>

#include "base/status.h"
#include "device/device.h"
#include "exchange/edge/edge_layer.h"

namespace orrery {

struct CudaIpcOptions {
  int device_index = 0;
  EdgeOptions edges = {};
};

// device: the one that device_index names. What the layer gave out may outlive it.
absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeCudaIpcLayer(const CudaIpcOptions& options,
                                                               std::unique_ptr<Device> device);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_CUDA_IPC_CUDA_IPC_LAYER_H_
