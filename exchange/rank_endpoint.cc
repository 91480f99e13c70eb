#include "exchange/rank_endpoint.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "exchange/wait.h"

namespace orrery {
namespace {

// Whether something was lost on the way is asked for an answer that takes longer than this, and again
// after as long: rarely needed, so it should cost nothing; and nobody should wait for what cannot come.
constexpr absl::Duration kKnockPause = absl::Milliseconds(500);

}  // namespace

// One channel, and the sink that it reports to.
class RankEndpoint::Link : public ChannelSink {
 public:
  Link(RankEndpoint* endpoint, int peer, Lane lane)
      : endpoint_(endpoint), peer_(peer), lane_(lane) {}
  ~Link() override { channel_.reset(); }

  void MakeChannel(const ChannelFactory& make_channel) {
    channel_ = make_channel(peer_, lane_, this);
  }
  int peer() const { return peer_; }
  Lane lane() const { return lane_; }
  Channel& channel() const { return *channel_; }

  void OnOpen() override { endpoint_->OnLinkChanged(*this, true); }
  absl::Status OnFrame(std::string frame) override {
    return endpoint_->OnReply(*this, std::move(frame));
  }
  void OnClosed(const absl::Status&) override { endpoint_->OnLinkChanged(*this, false); }

  // Guarded by the endpoint's mutex.
  bool open = false;
  int64_t num_openings = 0;
  absl::Time knock_at = absl::InfinitePast();  // not before

 private:
  RankEndpoint* const endpoint_;
  const int peer_;
  const Lane lane_;
  std::unique_ptr<Channel> channel_;
};

RankEndpoint::RankEndpoint(const ExchangeOptions& options, int num_peers,
                           const ChannelFactory& make_channel, absl::Duration look_time)
    : options_(options),
      numerics_hash_(NumericsHash(options.numerics_id)),
      look_time_(look_time),
      asked_(options.max_tickets),
      table_(options.max_tickets),
      times_(options.max_tickets),
      links_(num_peers) {
  for (int peer = 0; peer < num_peers; ++peer) {
    for (int lane = 0; lane < kNumLanes; ++lane) {
      links_[peer][lane] = std::make_unique<Link>(this, peer, static_cast<Lane>(lane));
    }
  }
  // Channels may call back before they are stored, so all links stand before the first is made.
  for (auto& lanes : links_) {
    for (auto& link : lanes) link->MakeChannel(make_channel);
  }
}

RankEndpoint::~RankEndpoint() { Close(); }

bool RankEndpoint::connected(int peer) const {
  std::lock_guard lock(mutex_);
  return link(peer, Lane::kDecode).open && link(peer, Lane::kBulk).open;
}

int64_t RankEndpoint::num_reconnects(int peer) const {
  std::lock_guard lock(mutex_);
  int64_t num_reconnects = 0;
  for (const auto& link : links_[peer]) {
    num_reconnects += std::max<int64_t>(link->num_openings - 1, 0);
  }
  return num_reconnects;
}

bool RankEndpoint::AwaitConnected(int peer, absl::Time deadline) {
  std::unique_lock lock(mutex_);
  const auto is_connected = [&] {
    return link(peer, Lane::kDecode).open && link(peer, Lane::kBulk).open;
  };
  WaitUntil(changed_, lock, deadline, [&] { return closed_ || is_connected(); });
  return is_connected();
}

std::string_view RankEndpoint::carrier(int peer) const {
  return link(peer, Lane::kDecode).channel().carrier();
}

std::string RankEndpoint::carrier_problem(int peer) const {
  return link(peer, Lane::kDecode).channel().carrier_problem();
}

absl::Status RankEndpoint::CheckPlan(int layer, const DispatchPlan& plan, size_t num_rows) const {
  if (layer < 0) return absl::InvalidArgumentError(absl::StrCat("layer ", layer));
  for (const PeerEntries& peer : plan) {
    if (peer.peer < 0 || peer.peer >= num_peers()) {
      return absl::InvalidArgumentError(
          absl::StrCat("plan names peer ", peer.peer, " of ", num_peers()));
    }
    int32_t last_row = 0;
    for (const DispatchEntry& entry : peer.entries) {
      if (entry.row < last_row || static_cast<size_t>(entry.row) >= num_rows || entry.expert < 0 ||
          entry.result < 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            "plan for peer ", peer.peer, ": entry {row ", entry.row, ", expert ", entry.expert,
            ", result ", entry.result, "} after row ", last_row, ", ", num_rows, " rows given"));
      }
      last_row = entry.row;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Ticket> RankEndpoint::OpenTicket(Lane lane, const std::vector<AskedFrame>& frames) {
  std::vector<TicketTable::Frame> table_frames;
  table_frames.reserve(frames.size());
  for (const AskedFrame& frame : frames) {
    table_frames.push_back(
        {.peer = frame.peer, .lane = lane, .num_entries = static_cast<int>(frame.entries.size())});
  }
  std::lock_guard lock(mutex_);
  if (closed_) return absl::FailedPreconditionError("the exchange is closed");
  ASSIGN_OR_RETURN(const Ticket ticket, table_.Open(table_frames));
  times_[ticket.slot] = {absl::Now(), absl::InfiniteFuture()};
  return ticket;
}

absl::StatusOr<Ticket> RankEndpoint::Dispatch(int layer, Lane lane, const DispatchPlan& plan,
                                              absl::Span<const std::byte> rows) {
  RETURN_IF_ERROR(CheckPlan(layer, plan, rows.size() / options_.row_bytes));
  std::vector<AskedFrame> frames;
  for (const PeerEntries& peer : plan) {
    for (absl::Span<const DispatchEntry> entries : SplitIntoFrames(
             peer.entries,
             {.row_bytes = options_.row_bytes, .result_bytes = options_.result_bytes})) {
      frames.push_back({.peer = peer.peer, .entries = {entries.begin(), entries.end()}});
    }
  }
  // Opened before anything is sent: a reply may come back before Send returns.
  ASSIGN_OR_RETURN(const Ticket ticket, OpenTicket(lane, frames));
  FrameHeader header{.lane = lane,
                     .ticket_slot = ticket.slot,
                     .ticket_generation = ticket.generation,
                     .layer = static_cast<uint32_t>(layer),
                     .row_bytes = static_cast<uint32_t>(options_.row_bytes),
                     .numerics_hash = numerics_hash_};
  for (size_t i = 0; i < frames.size(); ++i) {
    header.frame_index = static_cast<uint32_t>(i);
    std::string bytes = EncodeDispatch(header, frames[i].entries, rows.data());
    if (link(frames[i].peer, lane).channel().Send(std::move(bytes))) continue;
    std::lock_guard lock(mutex_);
    table_.FrameLost(ticket, header.frame_index);
  }
  asked_[ticket.slot] = {.lane = lane, .frames = std::move(frames)};
  return ticket;
}

absl::Status RankEndpoint::OnReply(const Link& link, std::string frame) {
  ASSIGN_OR_RETURN(const ReplyView reply, ParseReply(std::string_view(frame)));
  const FrameHeader& header = reply.header;
  const Ticket ticket{.slot = header.ticket_slot, .generation = header.ticket_generation};
  const TicketTable::ReplyAddress address{.ticket = ticket,
                                          .frame_index = header.frame_index,
                                          .peer = link.peer(),
                                          .lane = link.lane(),
                                          .num_entries = static_cast<int>(header.num_entries)};
  const bool usable =
      header.numerics_hash == numerics_hash_ && header.row_bytes == options_.result_bytes;
  std::unique_lock lock(mutex_);
  if (usable) {
    table_.AcceptReply(address, std::move(frame));
  } else {
    table_.Refuse(address);
  }
  const bool settled = table_.IsOpen(ticket) && table_.Settled(ticket);
  if (settled) times_[ticket.slot].second = absl::Now();
  lock.unlock();  // or the loop would wake up only to wait for us
  if (settled) changed_.notify_all();
  return absl::OkStatus();
}

void RankEndpoint::OnLinkChanged(Link& link, bool open) {
  std::lock_guard lock(mutex_);
  link.open = open && !closed_;
  link.num_openings += link.open;
  if (!open) table_.PeerLost(link.peer(), link.lane());
  changed_.notify_all();
}

namespace {

struct TakenReply {
  std::vector<EntryState> states;
  uint32_t eta_ms = 0;
};

// Writes the results that a reply brought, and returns the state of each of its entries.
TakenReply TakeReply(std::string_view bytes, absl::Span<const DispatchEntry> entries,
                     size_t result_bytes, absl::Span<std::byte> results) {
  // Parsed when it came, so it parses now.
  absl::StatusOr<ReplyView> reply = ParseReply(bytes);
  ORRERY_CHECK(reply.ok()) << reply.status().ToString();
  const std::byte* next = reply->results;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (reply->states[i] != EntryState::kDone) continue;
    const size_t begin = static_cast<size_t>(entries[i].result) * result_bytes;
    ORRERY_CHECK(begin + result_bytes <= results.size())
        << "result " << entries[i].result << " does not fit " << results.size() << " bytes";
    std::memcpy(results.data() + begin, next, result_bytes);
    next += result_bytes;
  }
  return {.states = std::move(reply->states), .eta_ms = reply->header.eta_ms};
}

EntryState StateWithoutReply(TicketTable::FrameState state) {
  switch (state) {
    case TicketTable::FrameState::kRefused:
      return EntryState::kRefused;
    case TicketTable::FrameState::kLost:
      return EntryState::kLost;
    default:
      return EntryState::kPending;
  }
}

}  // namespace

bool RankEndpoint::AwaitSettled(std::unique_lock<std::mutex>& lock,
                                absl::Span<const Ticket> tickets, size_t num_settled,
                                absl::Time deadline) {
  const auto have_settled = [&] {
    size_t num_found = 0;
    for (const Ticket& ticket : tickets) num_found += table_.Settled(ticket);
    return num_found >= num_settled;
  };
  if (look_time_ > absl::ZeroDuration()) {
    const absl::Time sleep_at = std::min(deadline, absl::Now() + look_time_);
    while (!have_settled() && absl::Now() < sleep_at) {
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    }
  }
  return WaitUntil(changed_, lock, deadline, have_settled);
}

bool RankEndpoint::Await(absl::Span<const Ticket> tickets, size_t num_settled,
                         absl::Time deadline) {
  std::vector<Link*> to_knock_at;
  {
    std::unique_lock lock(mutex_);
    if (AwaitSettled(lock, tickets, num_settled, deadline)) return true;
    to_knock_at = LinksToKnockAt(tickets);
  }
  for (Link* const link : to_knock_at) link->channel().Knock();
  return false;
}

std::vector<RankEndpoint::Link*> RankEndpoint::LinksToKnockAt(absl::Span<const Ticket> tickets) {
  std::vector<Link*> links;
  const absl::Time now = absl::Now();
  for (const Ticket& ticket : tickets) {
    if (now - times_[ticket.slot].first < kKnockPause) continue;
    for (const TicketTable::Frame& frame : table_.Waiting(ticket)) {
      Link& late = link(frame.peer, frame.lane);
      if (now < late.knock_at) continue;
      late.knock_at = now + kKnockPause;
      links.push_back(&late);
    }
  }
  return links;
}

std::optional<absl::Duration> RankEndpoint::AnsweredAfter(Ticket ticket) const {
  std::lock_guard lock(mutex_);
  const auto [dispatched, answered] = times_[ticket.slot];
  if (answered == absl::InfiniteFuture()) return std::nullopt;
  return answered - dispatched;
}

CombineReport RankEndpoint::Combine(Ticket ticket, absl::Time deadline,
                                    absl::Span<std::byte> results) {
  std::vector<TicketTable::Outcome> outcomes;
  {
    std::unique_lock lock(mutex_);
    AwaitSettled(lock, {&ticket, 1}, 1, deadline);
    // From here on replies to this ticket are late: what is in outcomes is all that reaches the
    // buffer.
    outcomes = table_.Close(ticket);
  }
  const Asked asked = std::exchange(asked_[ticket.slot], {});
  TellPeersToDrop(ticket, asked, outcomes);
  const std::vector<AskedFrame>& frames = asked.frames;
  CombineReport report;
  for (size_t i = 0; i < frames.size(); ++i) {
    const std::vector<DispatchEntry>& entries = frames[i].entries;
    TakenReply taken;
    if (outcomes[i].state == TicketTable::FrameState::kAnswered) {
      taken = TakeReply(outcomes[i].reply, entries, options_.result_bytes, results);
    } else {
      taken.states.assign(entries.size(), StateWithoutReply(outcomes[i].state));
    }
    for (size_t j = 0; j < entries.size(); ++j) {
      if (taken.states[j] == EntryState::kDone) continue;
      report.push_back({.peer = frames[i].peer,
                        .entry = entries[j],
                        .state = taken.states[j],
                        .eta_ms = taken.eta_ms});
    }
  }
  return report;
}

void RankEndpoint::Abandon(Ticket ticket) {
  std::vector<TicketTable::Outcome> outcomes;
  {
    std::lock_guard lock(mutex_);
    outcomes = table_.Close(ticket);
  }
  TellPeersToDrop(ticket, std::exchange(asked_[ticket.slot], {}), outcomes);
}

void RankEndpoint::TellPeersToDrop(Ticket ticket, const Asked& asked,
                                   const std::vector<TicketTable::Outcome>& outcomes) {
  int told = -1;  // frames lie peer by peer, and one word concerns all of a peer's
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const int peer = asked.frames[i].peer;
    if (outcomes[i].state != TicketTable::FrameState::kWaiting || peer == told) continue;
    told = peer;
    // If it cannot be sent the peer is lost, or so far behind that its work would be late anyway.
    link(peer, asked.lane)
        .channel()
        .Send(EncodeAbandon({.lane = asked.lane,
                             .ticket_slot = ticket.slot,
                             .ticket_generation = ticket.generation,
                             .numerics_hash = numerics_hash_}));
  }
}

ReplyCounters RankEndpoint::counters() const {
  std::lock_guard lock(mutex_);
  return table_.counters();
}

void RankEndpoint::Close() {
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    table_.AllLost();
    for (auto& lanes : links_) {
      for (auto& link : lanes) link->open = false;
    }
    changed_.notify_all();
  }
  for (auto& lanes : links_) {
    for (auto& link : lanes) link->channel().Close(absl::CancelledError("the rank closes"));
  }
}

}  // namespace orrery
