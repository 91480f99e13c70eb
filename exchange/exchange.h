// Rows out, rows back: the contract between attention ranks and expert shards.
//
//   rank                                          shard
//   ticket = Dispatch(layer, lane, plan, rows)     frame = Receive(deadline)
//   ... other work ...                             ... run the experts ...
//   report = Combine(ticket, deadline, results)    Reply(frame, states, results)
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
//     prompt.
//
// It is not placement (placement/) and it does not retry: the caller plans the entries that are not
// done anew.
//
// Threads: a RankExchange belongs to the loop of one rank, a ShardExchange to the loop of one
// shard. Close() may be called from any thread.
#ifndef ORRERY_EXCHANGE_EXCHANGE_H_
#define ORRERY_EXCHANGE_EXCHANGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"

namespace orrery {

// Largest frame on the wire, header included. Below it one frame fits the default windows of gRPC
// and the decode lane of a shared link is never blocked for long (512 KiB at 10 Gb/s: 0.4 ms).
inline constexpr size_t kMaxFrameBytes = 512 * 1024;

enum class Lane : uint8_t { kDecode = 0, kBulk = 1 };
inline constexpr int kNumLanes = 2;

// What became of one entry of a dispatch.
enum class EntryState : uint8_t {
  kPending = 0,  // not answered when the deadline passed
  kDone = 1,     // its result was written
  kNotHeld = 2,  // the shard does not hold this expert
  kLoading = 3,  // the shard is loading it; ask again
  kRefused = 4,  // the shard speaks another numerics id, or the frame made no sense
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
};

// The entries that are not done, in the order of the plan; empty when all is well.
using CombineReport = std::vector<EntryOutcome>;

// Replies that were thrown away since the start, by reason.
struct ReplyCounters {
  uint64_t late = 0;       // their ticket had been combined
  uint64_t duplicate = 0;  // their frame already had its state
  uint64_t malformed = 0;  // they made no sense, or answer what was never asked
};

class RankExchange {
 public:
  virtual ~RankExchange() = default;
  virtual int num_peers() const = 0;
  // Whether frames can reach the peer now.
  virtual bool connected(int peer) const = 0;
  // Waits until connected(peer), at most until the deadline; says whether it is.
  virtual bool AwaitConnected(int peer, absl::Time deadline) = 0;
  // Puts the rows that the plan names, each once per frame and peer, into the inboxes. rows:
  // encoded, num_rows * row_bytes. RESOURCE_EXHAUSTED when max_tickets are open: combine one first.
  virtual absl::StatusOr<Ticket> Dispatch(int layer, Lane lane, const DispatchPlan& plan,
                                          absl::Span<const std::byte> rows) = 0;
  // Waits until every entry has its state, at most until the deadline. Result r goes to
  // results + r * result_bytes. The ticket is void afterwards.
  virtual CombineReport Combine(Ticket ticket, absl::Time deadline,
                                absl::Span<std::byte> results) = 0;
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

class ShardExchange {
 public:
  virtual ~ShardExchange() = default;
  // The next frame, decode lane first; nullopt when the deadline passes or after Close().
  virtual std::optional<InboundFrame> Receive(absl::Time deadline) = 0;
  // Answers a received frame, once. states[i] and results + i * result_bytes belong to entries[i];
  // results of entries that are not kDone are not sent. A rank that has gone away is no error:
  // nobody waits for the answer.
  virtual void Reply(const InboundFrame& frame, absl::Span<const EntryState> states,
                     absl::Span<const std::byte> results) = 0;
  virtual void Close() = 0;
};

// What both sides must agree on; checked on every frame. Factories answer INVALID_ARGUMENT if one
// row or one result does not fit a frame.
struct ExchangeOptions {
  std::string numerics_id;
  size_t row_bytes = 0;
  size_t result_bytes = 0;
  int max_tickets = 4;
  // Bytes that may wait in one channel towards a peer that does not read, or in the inbox from one
  // peer; more and the peer counts as lost. At least kMaxFrameBytes.
  size_t max_queued_bytes = 64 * 1024 * 1024;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_EXCHANGE_H_
