// Rows out, rows back: the contract between attention ranks and expert shards.
//
//   rank                                          shard
//   ticket = Dispatch(layer, lane, plan, rows)     group = Receive(deadline)
//   ... other work ...                             ... run the experts of all frames at once ...
//   report = Combine(ticket, deadline, results)    Reply(frame, answer) for each frame
//
// The exchange does not know what is in a row: it moves row_bytes out and result_bytes back.
// Encoding and the weighted sum are kernels, called on either side of it.
//
// One-sided: a dispatch puts frames into the shards' inboxes and signals; a shard answers whoever
// sent a frame and never needs to know who will. A dispatch that does not fit a frame is split; no
// row is ever dropped.
//
// Guarantees:
//   * Every entry of a dispatch ends in exactly one state; results of entries that are not kDone
//     are untouched.
//   * A ticket carries a generation. Replies that arrive after their ticket was combined are
//     recognised by it and thrown away; they never touch a buffer that has been given back.
//   * Nothing blocks without a deadline. Dispatch never blocks: a peer whose queue is full counts
//     as lost for it.
//   * Decode and bulk travel on separate channels, so that one token never waits behind a long
//     prompt. At the shard neither lane starves the other (exchange/inbox.h).
//   * Nobody works for a ticket that was given up: frames of it that still wait in an inbox when
//     Abandon, or a Combine past its deadline, gets through to the shard leave it unanswered.
//
// It is not placement (placement/) and it does not retry: the caller plans the entries that are not
// done anew.
//
// Threads: a RankExchange belongs to the loop of one rank, a ShardExchange to the loop of one
// shard, and where it lets transports serve, to one of their threads at a time beside it (Receive
// and Reply, one caller at a time). Close(), counters(), carrier() and carrier_problem() may be called from any
// thread.
#ifndef ORRERY_EXCHANGE_EXCHANGE_H_
#define ORRERY_EXCHANGE_EXCHANGE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"

namespace orrery {

// Largest frame on the wire, header included. Below it one frame fits the default windows of gRPC
// and the decode lane of a shared link is never blocked for long (512 KiB at 10 Gb/s: 0.4 ms).
inline constexpr size_t kMaxFrameBytes = 512 * 1024;

// Most that the results of one group of frames may take, that is: of everything that a shard runs
// in one go. 256 rows of a step, 8 experts each, spread over 8 shards, ask one shard for 256
// results of 14,336 bytes (DeepSeek-V3, bf16), 3.5 MiB: such a chunk of a prompt is one group, and
// each expert's weights are read for it once.
inline constexpr size_t kMaxGroupBytes = 8 * kMaxFrameBytes;

enum class Lane : uint8_t { kDecode = 0, kBulk = 1 };
inline constexpr int kNumLanes = 2;

// What became of one entry of a dispatch.
enum class EntryState : uint8_t {
  kPending = 0,  // not answered when the deadline passed
  kDone = 1,     // its result was written
  kNotHeld = 2,  // the shard does not hold this expert
  kLoading = 3,  // the shard is loading it; ask again after eta_ms
  kRefused = 4,  // the shard speaks another numerics id, cannot run it, or it made no sense
  kLost = 5,     // the connection to the shard is, or went, down
};

// One row's visit to one expert.
struct DispatchEntry {
  int32_t row = 0;     // which of the rows given to Dispatch
  int32_t expert = 0;  // of this layer
  int32_t result = 0;  // which of the results given to Combine
};

// Everything that one peer is asked for in one dispatch.
struct PeerEntries {
  int peer = 0;
  std::vector<DispatchEntry> entries;  // by ascending row, then expert
};
using DispatchPlan = std::vector<PeerEntries>;

struct Ticket {
  uint32_t slot = 0;
  uint32_t generation = 0;
};

struct EntryOutcome {
  int peer = 0;
  DispatchEntry entry;
  EntryState state = EntryState::kPending;
  uint32_t eta_ms = 0;  // if kLoading: when the shard thinks that it is worth asking again
};

// The entries that are not done, in the order of the plan; empty when all is well.
using CombineReport = std::vector<EntryOutcome>;

// Replies that were thrown away since the start, by reason.
struct ReplyCounters {
  uint64_t late = 0;       // their ticket had been combined or given up
  uint64_t duplicate = 0;  // their frame already had its state
  uint64_t malformed = 0;  // they made no sense, or answer what was never asked
};

class RankExchange {
 public:
  virtual ~RankExchange() = default;
  virtual int num_peers() const = 0;
  // Whether frames can reach the peer now.
  virtual bool connected(int peer) const = 0;
  // How often the connection to the peer was made anew since the start, on any lane: another process may be at
  // its end than before.
  virtual int64_t num_reconnects(int peer) const { return 0; }
  // Waits until connected(peer), at most until the deadline; says whether it is.
  virtual bool AwaitConnected(int peer, absl::Time deadline) = 0;
  // What carries decode frames to the peer now, for people: "grpc", "nccl"; empty if nothing does.
  virtual std::string_view carrier(int peer) const { return {}; }
  // Why it is not the carrier that was meant to; empty if it is.
  virtual std::string carrier_problem(int peer) const { return {}; }
  // Puts the rows that the plan names, each once per frame and peer, into the inboxes. rows:
  // encoded, num_rows * row_bytes. RESOURCE_EXHAUSTED when max_tickets are open: combine one first.
  virtual absl::StatusOr<Ticket> Dispatch(int layer, Lane lane, const DispatchPlan& plan,
                                          absl::Span<const std::byte> rows) = 0;
  // Waits until that many of the tickets have settled, which means that every entry has its state, at
  // most until the deadline; says whether they have. Tickets stay open: for a rank that looks around
  // between two waits, or asks several peers for the same. A wait in vain also makes sure that nothing was lost on
  // the way (Channel::Knock), so who may wait long does it in short ones.
  virtual bool Await(absl::Span<const Ticket> tickets, size_t num_settled, absl::Time deadline) = 0;
  bool Await(Ticket ticket, absl::Time deadline) { return Await({&ticket, 1}, 1, deadline); }
  // How long after its Dispatch the last reply to this open ticket came; nullopt while one is missing,
  // or if one never will come.
  virtual std::optional<absl::Duration> AnsweredAfter(Ticket ticket) const = 0;
  // Waits likewise. Result r goes to results + r * result_bytes. The ticket is void afterwards, and
  // shards drop what of it is still kPending and waits in their inboxes.
  virtual CombineReport Combine(Ticket ticket, absl::Time deadline,
                                absl::Span<std::byte> results) = 0;
  // Gives the ticket up: void at once, and the shards drop those of its frames that wait in their
  // inboxes. Does not wait. What a shard has begun it finishes, for a reply that comes too late.
  virtual void Abandon(Ticket ticket) = 0;
  virtual ReplyCounters counters() const = 0;
  // Every open entry is lost; nothing can be dispatched any more.
  virtual void Close() = 0;
};

// One frame that reached a shard. Row i lies at rows + i * row_bytes; entries point at rows of this
// frame.
struct InboundFrame {
  struct Entry {
    int32_t row = 0;
    int32_t expert = 0;
  };
  int layer = 0;
  Lane lane = Lane::kDecode;
  std::vector<Entry> entries;
  int num_rows = 0;
  const std::byte* rows = nullptr;  // owned by the exchange until Reply
  uint64_t reply_to = 0;            // names the frame to Reply
};

// What a shard answers to one frame: states[i] and results + i * result_bytes belong to entries[i]; of
// entries that are not kDone, results are not sent.
struct FrameAnswer {
  absl::Span<const EntryState> states;
  absl::Span<const std::byte> results;
  uint32_t eta_ms = 0;  // of the kLoading ones
};

// Frames of one layer, of any ranks and lanes, that waited together: never empty, their results
// take at most kMaxGroupBytes. To be run as one, and answered one by one.
using InboundGroup = std::vector<InboundFrame>;

// Frames that left an inbox unanswered since the start, by reason.
struct InboxCounters {
  uint64_t abandoned = 0;  // their rank gave the ticket up
  uint64_t orphaned = 0;   // their rank's connection went down
};

class ShardExchange {
 public:
  virtual ~ShardExchange() = default;
  // Waits until frames wait, at most until the deadline; says whether they do. They stay in the
  // inbox: for a loop that has to get hold of its machine before it may take them. False after
  // Close(), and for who was woken up.
  virtual bool Await(absl::Time deadline) = 0;
  // The Await under way, or else the next one, waits no longer. From any thread.
  virtual void WakeUp() = 0;
  // The next frames to run; nullopt when the deadline passes or after Close(). Which ones:
  // exchange/inbox.h.
  virtual std::optional<InboundGroup> Receive(absl::Time deadline) = 0;
  // Answers a received frame, once. A rank that has gone away is no error: nobody waits for the
  // answer.
  virtual void Reply(const InboundFrame& frame, const FrameAnswer& answer) = 0;
  // Lets the thread that brought a frame run it: `serve` is called there, behind the frame, and
  // says whether it did; if not, because another thread is at it, whoever waits in Await or Receive
  // is woken up as usual. For transports with threads of their own, where it saves a wake-up of
  // four per exchange; the others ignore it. With null, returns when no call is under way.
  virtual void ServeOnArrival(std::function<bool()> serve) {}
  virtual InboxCounters counters() const = 0;
  // Connections of ranks that are open now, one for each lane. From any thread, like counters().
  virtual int num_connections() const = 0;
  virtual void Close() = 0;
};

// What both sides must agree on; checked on every frame. Factories answer INVALID_ARGUMENT if one
// row or one result does not fit a frame.
struct ExchangeOptions {
  std::string numerics_id;
  size_t row_bytes = 0;
  size_t result_bytes = 0;
  int max_tickets = 64;
  // Bytes that may wait in one channel towards a peer that does not read, or in the inbox from one
  // peer; more and the peer counts as lost. At least kMaxFrameBytes.
  size_t max_queued_bytes = 64 * 1024 * 1024;
  // Of a shard: bytes that may wait in the inbox from all ranks together, or have been received and not yet
  // answered; who sends more counts as lost.
  size_t max_inbox_bytes = size_t{4} << 30;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_EXCHANGE_H_
