// RankExchange over any transport that provides channels: splits plans into frames, keeps the
// tickets, waits.
//
//   RETURN_IF_ERROR(CheckExchangeOptions(options));
//   RankEndpoint rank(options, num_peers, [&](int peer, Lane lane, ChannelSink* sink) {
//     return std::make_unique<MyChannel>(address[peer], lane, sink);
//   });
//
// Threads: as exchange.h says; the sinks it gives out may be called from any thread. Replies are
// copied into the caller's buffer by the thread that calls Combine, after the ticket was closed
// with them in hand, and by nobody else.
#ifndef ORRERY_EXCHANGE_RANK_ENDPOINT_H_
#define ORRERY_EXCHANGE_RANK_ENDPOINT_H_

#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exchange/channel.h"
#include "exchange/exchange.h"
#include "exchange/frame.h"
#include "exchange/ticket_table.h"

namespace orrery {

class RankEndpoint : public RankExchange {
 public:
  // look_time: how long a wait for replies looks for them again and again, behind every thread that
  // has something to do, before it sleeps.
  RankEndpoint(const ExchangeOptions& options, int num_peers, const ChannelFactory& make_channel,
               absl::Duration look_time = absl::ZeroDuration());
  ~RankEndpoint() override;

  int num_peers() const override { return static_cast<int>(links_.size()); }
  bool connected(int peer) const override;
  int64_t num_reconnects(int peer) const override;
  bool AwaitConnected(int peer, absl::Time deadline) override;
  std::string_view carrier(int peer) const override;
  std::string carrier_problem(int peer) const override;
  absl::StatusOr<Ticket> Dispatch(int layer, Lane lane, const DispatchPlan& plan,
                                  absl::Span<const std::byte> rows) override;
  using RankExchange::Await;
  bool Await(absl::Span<const Ticket> tickets, size_t num_settled, absl::Time deadline) override;
  std::optional<absl::Duration> AnsweredAfter(Ticket ticket) const override;
  CombineReport Combine(Ticket ticket, absl::Time deadline, absl::Span<std::byte> results) override;
  void Abandon(Ticket ticket) override;
  ReplyCounters counters() const override;
  void Close() override;

 private:
  class Link;
  // One frame of an open ticket.
  struct AskedFrame {
    int peer = 0;
    std::vector<DispatchEntry> entries;
  };
  struct Asked {
    Lane lane = Lane::kDecode;
    std::vector<AskedFrame> frames;
  };

  absl::Status CheckPlan(int layer, const DispatchPlan& plan, size_t num_rows) const;
  absl::StatusOr<Ticket> OpenTicket(Lane lane, const std::vector<AskedFrame>& frames);
  // Tells the peers of the frames that are still waited for that nobody does any more.
  void TellPeersToDrop(Ticket ticket, const Asked& asked,
                       const std::vector<TicketTable::Outcome>& outcomes);
  bool AwaitSettled(std::unique_lock<std::mutex>& lock, absl::Span<const Ticket> tickets,
                    size_t num_settled, absl::Time deadline);
  // Those of a late answer, each once in a while; the lock is held.
  std::vector<Link*> LinksToKnockAt(absl::Span<const Ticket> tickets);
  absl::Status OnReply(const Link& link, std::string frame);
  void OnLinkChanged(Link& link, bool open);
  Link& link(int peer, Lane lane) const { return *links_[peer][static_cast<int>(lane)]; }

  const ExchangeOptions options_;
  const uint64_t numerics_hash_;
  const absl::Duration look_time_;
  std::vector<Asked> asked_;  // [ticket slot]; only the rank's loop uses it

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // a ticket settled, a link opened, or Close
  TicketTable table_;                // guarded by mutex_
  // [ticket slot] when a ticket was dispatched, and its last reply came. Guarded by mutex_.
  std::vector<std::pair<absl::Time, absl::Time>> times_;
  bool closed_ = false;  // guarded by mutex_

  // Last, so that channels are gone before what their callbacks use.
  std::vector<std::array<std::unique_ptr<Link>, kNumLanes>> links_;  // [peer][lane]
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_RANK_ENDPOINT_H_
