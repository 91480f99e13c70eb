// The exchange between GPUs of different nodes: rows by NCCL, over gRPC channels that carry the words
// and, whenever NCCL is not there, the rows as well.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<ChannelLayer> layer,
//                    MakeNcclLayer({.device_index = 0}, std::move(device)));
//   factory = layer->OverChannels(grpc_factory);         // a rank
//   grpc_shard_options.layer = layer.get();              // a shard
//
// Each connection has two communicators of two members, one for each direction, each with a stream of
// its own. So a dead peer takes nobody with it, and no two communicators ever wait for each other.
// Why pairs: ARCHITECTURE.md. How an edge lives: nccl_edge.h.
//
// Not encrypted, whatever the channel below is; carrier() says "nccl" while rows go so.
//
// Both sides must have the layer: a rank with it ends the connections of a shard without, which calls
// its messages malformed. Versions of NCCL must be equal; if not, the edge stays on the channel below, and
// both log both versions.
//
// Errors: INVALID_ARGUMENT (options), RESOURCE_EXHAUSTED (memory), INTERNAL (no NCCL).
// Threads: two of its own, whatever the number of edges; see also nccl_edge.h.
#ifndef ORRERY_EXCHANGE_NCCL_NCCL_LAYER_H_
#define ORRERY_EXCHANGE_NCCL_NCCL_LAYER_H_

#include <cstddef>
#include <memory>

#include "absl/time/time.h"
#include "base/status.h"
#include "device/device.h"
#include "exchange/channel.h"

namespace orrery {

struct NcclOptions {
  int device_index = 0;
  // Connections that may have NCCL at a time, two for each peer; further ones stay on the channel below.
  // Each takes 8 slots of 512 KiB, pinned on the host and on the device: 128 MiB of both for 32.
  int max_edges = 32;
  // Frames with fewer bytes of rows go whole: between 4 and 64 KiB a round trip of gRPC grows from 84 to
  // 149 us, and NCCL has two copies and a kernel at each end to make up for. Not measured on GPUs yet.
  size_t min_row_bytes = 32 * 1024;
  // What of the rows is not through within this makes the edge count as lost.
  absl::Duration operation_timeout = absl::Seconds(2);
  // An edge that has not formed within this stays on the channel below, and is tried again.
  absl::Duration forming_timeout = absl::Seconds(20);
  // Pause between two attempts, doubled up to the maximum.
  absl::Duration min_backoff = absl::Seconds(1);
  absl::Duration max_backoff = absl::Seconds(60);
  // Frames that wait for the rows of those before them may take so much, then the connection ends.
  size_t max_queued_bytes = 64 * 1024 * 1024;
};

// device: the one that device_index names. What the layer gave out may outlive it.
absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeNcclLayer(const NcclOptions& options,
                                                            std::unique_ptr<Device> device);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_NCCL_NCCL_LAYER_H_
