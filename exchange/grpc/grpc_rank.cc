#include "exchange/grpc/grpc_rank.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "exchange/caretaker.h"
#include "exchange/frame.h"
#include "exchange/grpc/grpc_rank_channel.h"
#include "exchange/rank_endpoint.h"
#include "rpc/member_channel.h"

namespace orrery {

absl::StatusOr<ChannelFactory> MakeGrpcChannels(const GrpcRankOptions& options) {
  RETURN_IF_ERROR(CheckExchangeOptions(options.exchange));
  const absl::Duration shortest =
      std::min({options.write_timeout, options.knock_timeout, options.connect_timeout,
                options.min_backoff, options.max_backoff});
  if (shortest <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "timeouts and backoffs must be positive, one is ", absl::FormatDuration(shortest)));
  }
  // A lane has its connection to itself: on a shared one, bulk frames would fill the windows before
  // decode frames.
  std::vector<GrpcRankChannel::Target> targets;  // [peer * kNumLanes + lane]
  for (const GrpcPeer& peer : options.peers) {
    for (int lane = 0; lane < kNumLanes; ++lane) {
      const auto connect = [address = peer.address, tls = options.tls,
                            local = options.local_sockets] {
        return MemberChannel::Make(address, tls, {.own_connection = true, .local_socket = local});
      };
      ASSIGN_OR_RETURN(std::shared_ptr<MemberChannel> member, connect());
      targets.push_back({.peer_name = peer.name,
                         .lane = static_cast<Lane>(lane),
                         .member = std::move(member),
                         .renew = [connect] { return connect().value_or(nullptr); }});
    }
  }
  auto caretaker =
      std::make_shared<Caretaker>(std::min(options.write_timeout, options.connect_timeout) / 2);
  return [options, targets = std::move(targets), caretaker = std::move(caretaker)](
             int peer, Lane lane, ChannelSink* sink) {
    return std::make_unique<GrpcRankChannel>(
        options, targets[peer * kNumLanes + static_cast<int>(lane)], caretaker, sink);
  };
}

absl::StatusOr<std::unique_ptr<RankExchange>> MakeGrpcRankExchange(GrpcRankOptions options) {
  ASSIGN_OR_RETURN(const ChannelFactory channels, MakeGrpcChannels(options));
  return std::make_unique<RankEndpoint>(options.exchange, static_cast<int>(options.peers.size()),
                                        channels);
}

}  // namespace orrery
