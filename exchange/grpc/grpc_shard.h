// The shard's side of the exchange over gRPC: a service whose streams feed one inbox.
//
//   ASSIGN_OR_RETURN(auto exchange, MakeGrpcShardExchange({.exchange = ...}));
//   ASSIGN_OR_RETURN(auto server, Server::Start(server_options, {exchange->service()}));
//   exchange->SetAccepting(true);             // once the weights are there
//   while (auto group = exchange->Receive(deadline)) ...
//   exchange->Close();  server->Stop(...);    // then destroy the server, then the exchange
//
// A rank whose frames wait in the inbox beyond options.max_queued_bytes loses its stream with
// RESOURCE_EXHAUSTED, a malformed frame loses it with INVALID_ARGUMENT.
//
// Threads: callbacks run on gRPC's, and with ServeOnArrival one at a time runs the serve function
// there; Receive and Reply belong to it and to the shard's loop. SetAccepting and Close from any.
#ifndef ORRERY_EXCHANGE_GRPC_GRPC_SHARD_H_
#define ORRERY_EXCHANGE_GRPC_GRPC_SHARD_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/exchange.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace orrery {

class ChannelLayer;
class ShardEndpoint;

struct GrpcShardOptions {
  ExchangeOptions exchange;
  // Streams that are meant for another shard, which had this address before, are refused with NOT_FOUND. Empty:
  // all are taken.
  std::string name = {};
  // A frame that a rank's connection does not take for this long, while more are to follow, means that the rank is
  // lost.
  absl::Duration write_timeout = absl::Seconds(5);
  // Streams that may be open at a time (two per rank); more are refused with RESOURCE_EXHAUSTED.
  int max_streams = 256;
  // What frames pass through on their way to the inbox and back; outlives the exchange. Null: nothing.
  ChannelLayer* layer = nullptr;
};

class GrpcShardExchange : public ShardExchange {
 public:
  // The Expert service; owned by this object, which must outlive the server.
  virtual grpc::Service* service() = 0;
  // While not accepting (as at first), new streams are refused with UNAVAILABLE; open ones stay.
  virtual void SetAccepting(bool accepting) = 0;
  // For other transports that feed the same inbox.
  virtual std::shared_ptr<ShardEndpoint> endpoint() = 0;
};

absl::StatusOr<std::unique_ptr<GrpcShardExchange>> MakeGrpcShardExchange(
    const GrpcShardOptions& options);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_GRPC_GRPC_SHARD_H_
