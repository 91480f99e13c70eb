// Connections whose rows go by a carrier, NCCL or CUDA IPC, over channels of another transport, which carry the
// words and, whenever the carrier is not there, the rows as well.
//
//   RETURN_IF_ERROR(CheckEdgeOptions(options));
//   std::unique_ptr<ChannelLayer> layer = MakeEdgeLayer(std::move(carrier), options);
//   factory = layer->OverChannels(grpc_factory);         // a rank
//   grpc_shard_options.layer = layer.get();              // a shard
//
// How a connection lives: edge.h. A rank speaks of it only to a shard whose channel says the same terms();
// with any other it stays on the channel below, and says why (Channel::carrier_problem).
//
// Not encrypted, whatever the channel below is; carrier() has the carrier's name while rows go so.
//
// Errors: INVALID_ARGUMENT (options).
// Threads: one of its own, whatever the number of edges, and those that bury what is lost; see also edge.h.
#ifndef ORRERY_EXCHANGE_EDGE_EDGE_LAYER_H_
#define ORRERY_EXCHANGE_EDGE_EDGE_LAYER_H_

#include <cstddef>
#include <memory>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/channel.h"
#include "exchange/edge/carrier.h"

namespace orrery {

struct EdgeOptions {
  // Connections that may have the carrier at a time, two for each peer; further ones stay on the channel
  // below. Each takes 4 slots of 512 KiB for each direction: 128 MiB for 32.
  int max_edges = 32;
  // Frames with fewer bytes of rows go whole: between 4 and 64 KiB a round trip of gRPC grows from 84 to
  // 149 us, and a carrier has two copies at each end to make up for. Not measured on GPUs yet.
  size_t min_row_bytes = 32 * 1024;
  // What of the rows is not through within this makes the edge count as lost.
  absl::Duration operation_timeout = absl::Seconds(2);
  // An edge that has not formed within this stays on the channel below, and is tried again.
  absl::Duration forming_timeout = absl::Seconds(20);
  // Pause between two attempts, doubled up to the maximum.
  absl::Duration min_backoff = absl::Seconds(1);
  absl::Duration max_backoff = absl::Seconds(60);
  // How long the end of the layer waits for what is lost to be closed.
  absl::Duration burial_timeout = absl::Seconds(5);
  // Frames that wait for the rows of those before them may take so much, then the connection ends.
  size_t max_queued_bytes = 64 * 1024 * 1024;
};

absl::Status CheckEdgeOptions(const EdgeOptions& options);

// options: checked. What the layer gave out may outlive it.
std::unique_ptr<ChannelLayer> MakeEdgeLayer(std::unique_ptr<Carrier> carrier,
                                            const EdgeOptions& options);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_EDGE_EDGE_LAYER_H_
