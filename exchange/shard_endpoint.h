// ShardExchange over any transport that provides channels: one inbox for all ranks, and the way
// back for each frame.
//
//   ShardEndpoint shard(options, max_streams);
//   ASSIGN_OR_RETURN(auto sink, shard.Connect(lane, channel));   // a rank opened a connection
//   RETURN_IF_ERROR(sink->OnFrame(bytes));  ...  sink->OnClosed(why);
//
// A frame of another numerics id or row size is answered kRefused here and never reaches the
// shard's loop. Frames of a connection that is gone, or of a ticket that its rank gave up, leave
// the inbox, as nobody waits for their answer.
// Bounds: frames that one connection has in the inbox, or received and not yet answered, may take
// max_queued_bytes, those of all together max_inbox_bytes.
//
// Which frames run together, and which next, decides exchange/inbox.h.
//
// Threads: Await belongs to the shard's loop; Receive and Reply to it and to the threads of a
// transport that run the serve function, one caller at a time; everything else may be called from
// any thread.
#ifndef ORRERY_EXCHANGE_SHARD_ENDPOINT_H_
#define ORRERY_EXCHANGE_SHARD_ENDPOINT_H_

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "exchange/channel.h"
#include "exchange/exchange.h"
#include "exchange/frame.h"
#include "exchange/inbox.h"

namespace orrery {

class ShardEndpoint : public ShardExchange {
 public:
  ShardEndpoint(const ExchangeOptions& options, int max_streams);
  ~ShardEndpoint() override;

  // How frames of a connection arrive: the transport may call Arrived() behind each, or a thread that has
  // other things to do brings them at any time, and they wake up whoever waits.
  enum class Arrival { kAnnounced, kAtAnyTime };

  // The sink may outlive its connection, but not the endpoint. UNAVAILABLE after Close,
  // RESOURCE_EXHAUSTED beyond max_streams.
  absl::StatusOr<std::shared_ptr<ChannelSink>> Connect(Lane lane, std::shared_ptr<Channel> channel,
                                                       Arrival arrival = Arrival::kAnnounced);

  // See ShardExchange::ServeOnArrival. Only where transports call Arrived().
  void SetServe(std::function<bool()> serve);
  // Behind each OnFrame, once the transport can bring the next frame: frames are served or
  // announced.
  void Arrived();

  bool Await(absl::Time deadline) override;
  void WakeUp() override;
  std::optional<InboundGroup> Receive(absl::Time deadline) override;
  void Reply(const InboundFrame& frame, const FrameAnswer& answer) override;
  InboxCounters counters() const override;
  int num_connections() const override;
  void Close() override;

 private:
  class Stream;

  absl::Status OnFrame(Stream& stream, std::string bytes);
  absl::Status OnAbandon(Stream& stream, std::string_view bytes);
  absl::Status Enqueue(Stream& stream, std::unique_ptr<Inbound> inbound);
  void OnClosed(Stream& stream);

  const ExchangeOptions options_;
  const uint64_t numerics_hash_;
  const size_t max_streams_;

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::condition_variable served_;
  // All guarded by mutex_.
  std::function<bool()> serve_;
  int num_serving_ = 0;  // calls of serve_ under way
  bool closed_ = false;
  bool woken_up_ = false;
  std::map<uint64_t, std::shared_ptr<Stream>> streams_;  // by Inbound::source; the open ones
  uint64_t next_source_ = 1;
  Inbox inbox_;
  size_t held_bytes_ = 0;  // of all connections, those included that are gone
  std::map<uint64_t, std::unique_ptr<Inbound>> received_;  // by reply_to
  uint64_t next_reply_to_ = 1;
  InboxCounters counters_;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHARD_ENDPOINT_H_
