// The ticket protocol of a rank, without I/O: which frames are out, what became of each, which
// replies count.
//
//   ASSIGN_OR_RETURN(Ticket ticket, table.Open({{.peer = 0, .num_entries = 12}, ...}));
//   table.AcceptReply({.ticket = ticket, .frame_index = 0, .peer = 0, ...}, bytes);   // kAccepted
//   table.PeerLost(1, lane);
//   if (table.Settled(ticket)) outcomes = table.Close(ticket);
//
//              AcceptReply
//   kWaiting ---------------> kAnswered
//      | \ `--- Refuse -----> kRefused
//      |  `---- PeerLost ---> kLost
//      `------- Close ------> (kWaiting)
//
// A frame leaves kWaiting once and for all; a second reply for it is kDuplicate. Close voids the
// ticket: its slot will be used again under the next generation, and replies that still carry the
// old one are kLate.
//
// Replies are kept as opaque bytes until Close hands them out, so nothing of a late reply ever
// reaches a buffer. It has no clock (the caller decides when to give up waiting) and no threads:
// guard it with a lock.
//
// Errors: Open answers RESOURCE_EXHAUSTED with the limit. Closing a ticket that is not open is a
// broken invariant.
#ifndef ORRERY_EXCHANGE_TICKET_TABLE_H_
#define ORRERY_EXCHANGE_TICKET_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "exchange/exchange.h"

namespace orrery {

class TicketTable {
 public:
  // A frame that goes out: where to, and how many entries its reply must have.
  struct Frame {
    int peer = 0;
    Lane lane = Lane::kDecode;
    int num_entries = 0;
  };
  enum class FrameState { kWaiting, kAnswered, kRefused, kLost };
  struct Outcome {
    FrameState state = FrameState::kWaiting;
    std::string reply;  // if kAnswered
  };
  // What a reply says it answers, and the channel that it came through.
  struct ReplyAddress {
    Ticket ticket;
    uint32_t frame_index = 0;
    int peer = 0;
    Lane lane = Lane::kDecode;
    int num_entries = 0;
  };
  // kWrong: it answers what was never asked of this peer. A reply with the wrong number of entries
  // settles its frame as kRefused, and is kWrong too.
  enum class Verdict { kAccepted, kLate, kDuplicate, kWrong };

  explicit TicketTable(int max_tickets) : slots_(max_tickets) {}

  // Frame i of the ticket is frames[i]. A ticket without frames is settled at once.
  absl::StatusOr<Ticket> Open(const std::vector<Frame>& frames);
  Verdict AcceptReply(const ReplyAddress& address, std::string reply);
  // A reply that cannot be used, whatever is in it: its numerics id is not ours.
  Verdict Refuse(const ReplyAddress& address);
  // This frame could not be sent.
  void FrameLost(Ticket ticket, uint32_t frame_index);
  // Nothing that was sent through this channel will be answered any more.
  void PeerLost(int peer, Lane lane);
  void AllLost();

  bool IsOpen(Ticket ticket) const;
  // Whether no frame of this open ticket is kWaiting.
  bool Settled(Ticket ticket) const;
  // Those of this open ticket that are kWaiting.
  std::vector<Frame> Waiting(Ticket ticket) const;
  // Frees the slot; one outcome per frame.
  std::vector<Outcome> Close(Ticket ticket);

  int num_open() const;
  const ReplyCounters& counters() const { return counters_; }

 private:
  struct Slot {
    bool open = false;
    uint32_t generation = 0;  // of the last ticket; 0: never used
    int num_waiting = 0;
    std::vector<Frame> frames;
    std::vector<Outcome> outcomes;
  };

  Verdict Settle(const ReplyAddress& address, FrameState state, std::string reply);
  static void Transition(Slot& slot, size_t frame_index, FrameState to);
  template <typename Predicate>
  void LoseFrames(Predicate matches);

  std::vector<Slot> slots_;
  ReplyCounters counters_;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_TICKET_TABLE_H_
