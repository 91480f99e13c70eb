// What a transport must provide: one channel per peer and lane that carries whole frames, in order.
//
//   rank:  RankEndpoint makes the channels through a ChannelFactory; a channel connects by itself,
//          again and again.
//   shard: the transport makes a channel per connection that a rank opened, and announces it to the
//          ShardEndpoint.
//
//   OnOpen  OnFrame*  OnClosed  OnOpen  OnFrame* ...   (a rank's; a shard's has one connection)
//
// Requirements on a transport:
//   * Send never blocks. Frames that were accepted arrive in order, or OnClosed follows; behind Knock it does within
//     seconds, but with peers that know no knocks.
//   * OnClosed of a connection is delivered before Send accepts frames for the next one.
//   * An error from OnFrame is passed on to the peer as the reason, and the connection ends.
//   * After Close() a channel does not connect again. Its destructor returns when no callback runs
//     or will run.
// Requirements on an endpoint: it holds no lock while it calls a channel, so that callbacks may
// take its locks, also from within Send; and its sinks may be called from several threads at a
// time.
#ifndef ORRERY_EXCHANGE_CHANNEL_H_
#define ORRERY_EXCHANGE_CHANNEL_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "exchange/exchange.h"

namespace orrery {

class Channel {
 public:
  virtual ~Channel() = default;
  // Queues a frame. False if there is no connection, or if the queue of
  // ExchangeOptions::max_queued_bytes is full.
  virtual bool Send(std::string frame) = 0;
  // Ends the connection, with this reason for the peer. Idempotent, from any thread, does not wait.
  virtual void Close(const absl::Status& why) = 0;
  // Ends this connection only; one that a rank opened is opened anew. For layers above the channel that
  // cannot go on; of gRPC's and of shared memory's, which are the ones that have such a layer.
  virtual void Reset(const absl::Status& why) { Close(why); }
  // Of a rank's, whose answers are late: finds out whether something was lost on the way, although the connection
  // stands; then the connection ends. For transports where that may happen.
  virtual void Knock() {}
  // Of a rank's, while it is open: ChannelLayer::terms() of the layer that the shard has above this
  // channel; empty if there is none.
  virtual std::string peer_layer() const { return {}; }
  // Of a rank's: see RankExchange::carrier.
  virtual std::string_view carrier() const { return {}; }
  virtual std::string carrier_problem() const { return {}; }
};

// Where a channel reports to.
class ChannelSink {
 public:
  virtual ~ChannelSink() = default;
  virtual void OnOpen() = 0;
  virtual absl::Status OnFrame(std::string frame) = 0;
  virtual void OnClosed(const absl::Status& why) = 0;
};

// Makes a rank's channel; the sink outlives it.
using ChannelFactory =
    std::function<std::unique_ptr<Channel>(int peer, Lane lane, ChannelSink* sink)>;

class ShardEndpoint;

// Stands between endpoints and the channels of another transport, on both sides of a connection.
class ChannelLayer {
 public:
  virtual ~ChannelLayer() = default;
  // What the channel below tells a rank that the shard has above it: a few words, for people too. Between
  // layers whose terms differ frames pass as they are.
  virtual std::string terms() const = 0;
  // Of a rank: channels through the layer over such of `below`.
  virtual ChannelFactory OverChannels(ChannelFactory below) = 0;
  // Of a shard: as ShardEndpoint::Connect. Frames may reach the endpoint in threads of the layer.
  virtual absl::StatusOr<std::shared_ptr<ChannelSink>> Connect(ShardEndpoint& endpoint, Lane lane,
                                                               std::shared_ptr<Channel> below) = 0;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_CHANNEL_H_
