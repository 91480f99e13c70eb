#include "tests/simulation/ticket_world.h"

#include <cstring>
#include <utility>

namespace orrery {
namespace {

// A row is the number of its ticket; a result is that number and the expert that it went through.
constexpr uint32_t kRowBytes = sizeof(uint64_t);
struct Result {
  uint64_t number = 0;
  uint64_t expert = 0;
};

constexpr int kMaxRows = 6;  // of a ticket, for one shard
constexpr int kNumLayers = 3;
constexpr uint64_t kRank = 1;  // names the one rank's connection
constexpr FrameLimits kLimits{.row_bytes = kRowBytes,
                              .result_bytes = sizeof(Result),
                              .max_frame_bytes = 160};  // so that most plans need several frames

template <typename T>
T Read(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

}  // namespace

TicketWorld::TicketWorld(EventLoop& loop, const TicketWorldSpec& spec)
    : loop_(loop), spec_(spec), table_(spec.max_open) {
  for (int i = 0; i < spec.num_shards; ++i) {
    shards_.push_back({.from_rank = std::make_unique<Link>(loop, spec.faults),
                       .to_rank = std::make_unique<Link>(loop, spec.faults),
                       .inbox = Inbox(sizeof(Result))});
  }
}

void TicketWorld::Run() {
  loop_.After(absl::ZeroDuration(), [this] { DispatchNext(); });
  while (loop_.RunOne()) {
    promises_.Expect(table_.num_open() == static_cast<int>(open_.size()), "a slot was lost");
  }
  promises_.Expect(open_.empty() && num_closed_ == spec_.num_tickets, "a ticket never ended");
  for (const Shard& shard : shards_)
    promises_.Expect(shard.inbox.empty(), "a shard forgot a frame");
}

// Some rows of every shard's, in frames.
TicketWorld::OpenTicket TicketWorld::Plan() {
  OpenTicket open;
  open.lane = static_cast<Lane>(loop_.Below(kNumLanes));
  open.number = next_number_++;
  for (int peer = 0; peer < spec_.num_shards; ++peer) {
    std::vector<DispatchEntry> entries;
    const int num_rows = static_cast<int>(loop_.Below(kMaxRows));
    for (int row = 0; row < num_rows; ++row) {
      for (int expert = 0; expert <= loop_.Below(3); ++expert) {
        entries.push_back({.row = row, .expert = expert});
      }
    }
    for (absl::Span<const DispatchEntry> frame : SplitIntoFrames(entries, kLimits)) {
      open.frames.emplace_back(frame.begin(), frame.end());
      open.peers.push_back(peer);
    }
  }
  return open;
}

void TicketWorld::DispatchNext() {
  if (num_dispatched_ == spec_.num_tickets) return;
  loop_.After(loop_.Between(absl::ZeroDuration(), absl::Milliseconds(4)),
              [this] { DispatchNext(); });
  OpenTicket open = Plan();
  std::vector<TicketTable::Frame> table_frames;
  for (size_t i = 0; i < open.frames.size(); ++i) {
    table_frames.push_back({.peer = open.peers[i],
                            .lane = open.lane,
                            .num_entries = static_cast<int>(open.frames[i].size())});
  }
  const absl::StatusOr<Ticket> ticket = table_.Open(table_frames);
  promises_.Expect(ticket.ok() == (static_cast<int>(open_.size()) < spec_.max_open),
                   "Open misjudged");
  if (!ticket.ok()) return;  // as many open as allowed: try again later
  ++num_dispatched_;
  open.ticket = *ticket;
  SendFrames(open, /*layer=*/static_cast<int>(loop_.Below(kNumLayers)));
  open_[ticket->slot] = std::move(open);
  loop_.After(spec_.patience, [this, ticket = *ticket] {
    if (table_.IsOpen(ticket)) Close(ticket.slot);
  });
  if (loop_.Happens(spec_.abandon)) {
    loop_.After(loop_.Between(absl::ZeroDuration(), spec_.patience), [this, ticket = *ticket] {
      if (!table_.IsOpen(ticket)) return;
      ++num_abandoned_;
      Close(ticket.slot);
    });
  }
  CloseIfSettled(ticket->slot);
}

void TicketWorld::SendFrames(const OpenTicket& open, int layer) {
  const std::vector<uint64_t> rows(kMaxRows, open.number);
  for (size_t i = 0; i < open.frames.size(); ++i) {
    const int peer = open.peers[i];
    const std::string bytes =
        EncodeDispatch({.lane = open.lane,
                        .ticket_slot = open.ticket.slot,
                        .ticket_generation = open.ticket.generation,
                        .frame_index = static_cast<uint32_t>(i),
                        .layer = static_cast<uint32_t>(layer),
                        .row_bytes = kRowBytes},
                       open.frames[i], reinterpret_cast<const std::byte*>(rows.data()));
    if (shards_[peer].up) {
      shards_[peer].from_rank->Send(
          bytes, [this, peer](const std::string& frame) { OnFrameAtShard(peer, frame); });
    } else {
      table_.FrameLost(open.ticket, static_cast<uint32_t>(i));
    }
  }
}

void TicketWorld::OnFrameAtShard(int peer, const std::string& bytes) {
  if (!shards_[peer].up) return;
  if (loop_.Happens(spec_.crash)) {
    Crash(peer);
  } else if (LooksLikeAbandon(bytes)) {
    OnAbandon(peer, bytes);
  } else {
    OnDispatch(peer, bytes);
  }
}

void TicketWorld::OnDispatch(int peer, const std::string& bytes) {
  auto inbound = std::make_unique<Inbound>();
  inbound->bytes = bytes;
  absl::StatusOr<DispatchView> view = ParseDispatch(inbound->bytes);
  promises_.Expect(view.ok(), "a shard cannot read a frame");
  if (!view.ok()) return;
  inbound->source = kRank;
  inbound->header = view->header;
  inbound->frame = {.layer = static_cast<int>(view->header.layer),
                    .lane = view->header.lane,
                    .entries = std::move(view->entries),
                    .num_rows = static_cast<int>(view->header.num_rows),
                    .rows = view->rows};
  shards_[peer].inbox.Push(std::move(inbound));
  if (!shards_[peer].busy) RunNextGroup(peer);
}

// On these links it may overtake the frames that it takes back; then they are answered, too late.
void TicketWorld::OnAbandon(int peer, const std::string& bytes) {
  const absl::StatusOr<FrameHeader> header = ParseAbandon(bytes);
  promises_.Expect(header.ok(), "a shard cannot read an abandon");
  if (!header.ok()) return;
  const Ticket ticket{.slot = header->ticket_slot, .generation = header->ticket_generation};
  const Inbox::Frames dropped = shards_[peer].inbox.DropTicket(kRank, ticket);
  for (const auto& inbound : dropped) {
    const Ticket of_frame{.slot = inbound->header.ticket_slot,
                          .generation = inbound->header.ticket_generation};
    promises_.Expect(!table_.IsOpen(of_frame), "a frame of an open ticket was dropped");
  }
  num_dropped_ += static_cast<int>(dropped.size());
  Trace(dropped.size());
}

void TicketWorld::RunNextGroup(int peer) {
  Shard& shard = shards_[peer];
  const Inbox::Frames group = shard.inbox.TakeGroup();
  shard.busy = !group.empty();
  if (group.empty()) return;
  ++num_groups_;
  std::vector<std::string> replies;
  for (const auto& inbound : group) {
    promises_.Expect(inbound->frame.layer == group[0]->frame.layer, "a group is of two layers");
    ++num_frames_run_;
    replies.push_back(RunFrame(*inbound));
  }
  loop_.After(loop_.Between(absl::Microseconds(10), absl::Milliseconds(4)),
              [this, peer, replies = std::move(replies), life = shard.life] {
                if (!shards_[peer].up || shards_[peer].life != life) return;
                for (const std::string& reply : replies) {
                  shards_[peer].to_rank->Send(
                      reply, [this, peer](const std::string& frame) { OnReply(peer, frame); });
                }
                RunNextGroup(peer);
              });
}

std::string TicketWorld::RunFrame(const Inbound& inbound) {
  std::vector<Result> results;
  std::vector<EntryState> states;
  for (const InboundFrame::Entry& entry : inbound.frame.entries) {
    results.push_back({.number = Read<uint64_t>(inbound.frame.rows + entry.row * kRowBytes),
                       .expert = static_cast<uint64_t>(entry.expert)});
    states.push_back(loop_.Happens(0.1) ? EntryState::kNotHeld : EntryState::kDone);
  }
  return EncodeReply(inbound.header,
                     {.states = states,
                      .results = {reinterpret_cast<const std::byte*>(results.data()),
                                  results.size() * sizeof(Result)}},
                     sizeof(Result));
}

// Replies that are under way still arrive after the rank has noticed, which no transport of ours
// would do: the table must not depend on that.
void TicketWorld::Crash(int peer) {
  Trace(1000 + peer);
  shards_[peer].up = false;
  shards_[peer].busy = false;
  shards_[peer].inbox.Clear();
  ++shards_[peer].life;
  shards_[peer].from_rank->Cut();
  loop_.After(absl::Microseconds(200), [this, peer] {
    for (int lane = 0; lane < kNumLanes; ++lane) table_.PeerLost(peer, static_cast<Lane>(lane));
    for (const auto& [slot, open] : open_) {
      promises_.Expect(!WaitsOnlyFor(open, peer) || table_.Settled(open.ticket),
                       "a frame of a lost peer is still waited for");
    }
    for (uint32_t slot = 0; slot < static_cast<uint32_t>(spec_.max_open); ++slot) {
      CloseIfSettled(slot);
    }
  });
  loop_.After(loop_.Between(absl::Milliseconds(1), absl::Milliseconds(30)),
              [this, peer] { shards_[peer].up = true; });
}

bool TicketWorld::WaitsOnlyFor(const OpenTicket& open, int peer) {
  for (size_t i = 0; i < open.frames.size(); ++i) {
    if (open.peers[i] != peer && open.accepted.count(static_cast<uint32_t>(i)) == 0) return false;
  }
  return true;
}

void TicketWorld::OnReply(int peer, const std::string& bytes) {
  const absl::StatusOr<ReplyView> view = ParseReply(bytes);
  promises_.Expect(view.ok(), "the rank cannot read a reply");
  if (!view.ok()) return;
  const FrameHeader& header = view->header;
  const auto place = open_.find(header.ticket_slot);
  const bool is_open =
      place != open_.end() && place->second.ticket.generation == header.ticket_generation;
  const bool is_first = is_open && place->second.accepted.count(header.frame_index) == 0;

  const TicketTable::Verdict verdict = table_.AcceptReply(
      {.ticket = {.slot = header.ticket_slot, .generation = header.ticket_generation},
       .frame_index = header.frame_index,
       .peer = peer,
       .lane = header.lane,
       .num_entries = static_cast<int>(header.num_entries)},
      bytes);
  Trace(static_cast<uint64_t>(verdict));
  promises_.Expect(verdict != TicketTable::Verdict::kWrong, "a true reply was called wrong");
  promises_.Expect((verdict == TicketTable::Verdict::kLate) == !is_open, "late was misjudged");
  if (verdict != TicketTable::Verdict::kAccepted) return;
  promises_.Expect(is_first, "a frame was answered twice");
  if (!is_first) return;
  place->second.accepted.insert(header.frame_index);
  CloseIfSettled(header.ticket_slot);
}

void TicketWorld::CloseIfSettled(uint32_t slot) {
  const auto place = open_.find(slot);
  if (place != open_.end() && table_.Settled(place->second.ticket)) Close(slot);
}

void TicketWorld::Close(uint32_t slot) {
  const OpenTicket open = std::move(open_.at(slot));
  open_.erase(slot);
  ++num_closed_;
  const std::vector<TicketTable::Outcome> outcomes = table_.Close(open.ticket);
  promises_.Expect(outcomes.size() == open.frames.size(), "a frame has no outcome");
  TellShardsToDrop(open, outcomes);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    ++final_states_[outcomes[i].state];
    Trace(static_cast<uint64_t>(outcomes[i].state));
    const bool answered = outcomes[i].state == TicketTable::FrameState::kAnswered;
    promises_.Expect(answered == (open.accepted.count(static_cast<uint32_t>(i)) > 0),
                     "an accepted reply is not what its frame ended with");
    if (answered) CheckResults(open, i, outcomes[i].reply);
  }
}

void TicketWorld::TellShardsToDrop(const OpenTicket& open,
                                   const std::vector<TicketTable::Outcome>& outcomes) {
  std::set<int> told;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const int peer = open.peers[i];
    if (outcomes[i].state != TicketTable::FrameState::kWaiting || !told.insert(peer).second) {
      continue;
    }
    shards_[peer].from_rank->Send(
        EncodeAbandon({.lane = open.lane,
                       .ticket_slot = open.ticket.slot,
                       .ticket_generation = open.ticket.generation}),
        [this, peer](const std::string& frame) { OnFrameAtShard(peer, frame); });
  }
}

void TicketWorld::CheckResults(const OpenTicket& open, size_t frame, const std::string& reply) {
  const absl::StatusOr<ReplyView> view = ParseReply(reply);
  promises_.Expect(view.ok() && view->states.size() == open.frames[frame].size(),
                   "a reply is not whole");
  if (!view.ok()) return;
  const std::byte* next = view->results;
  for (size_t i = 0; i < view->states.size(); ++i) {
    if (view->states[i] != EntryState::kDone) continue;
    const Result result = Read<Result>(next);
    next += sizeof(Result);
    promises_.Expect(result.number == open.number, "a result belongs to another ticket");
    promises_.Expect(result.expert == static_cast<uint64_t>(open.frames[frame][i].expert),
                     "a result belongs to another entry");
  }
}

void TicketWorld::Trace(uint64_t value) {
  value += static_cast<uint64_t>(absl::ToUnixNanos(loop_.Now()));
  trace_ = (trace_ ^ value) * 0x100000001b3;  // FNV-1a's step
}

}  // namespace orrery
