// One rank and some shards over bad links, in virtual time: the real TicketTable, Inbox and frames.
//
//   TicketWorld world(loop, {.num_shards = 3, .num_tickets = 2000});
//   world.Run();
//   EXPECT_THAT(world.violations(), IsEmpty());
//
// The rank dispatches ticket after ticket, a few open at a time, and gives some up; shards run what
// waits in groups, crash and come back. Every row carries a number that no other ticket has, and
// every result repeats it, so that a result which reaches the wrong ticket shows. After every event
// the invariants are checked:
//   * a reply is accepted at most once per frame, and only while its ticket is open
//   * what is accepted is the answer to this very ticket
//   * when a ticket is closed, every frame has exactly one state, and answered frames have whole
//     results
//   * a settled ticket stays settled; no slot is lost
//   * a group is of one layer; what leaves an inbox unanswered belongs to no open ticket, and
//     nothing is forgotten there
#ifndef ORRERY_TESTS_SIMULATION_TICKET_WORLD_H_
#define ORRERY_TESTS_SIMULATION_TICKET_WORLD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "exchange/frame.h"
#include "exchange/inbox.h"
#include "exchange/ticket_table.h"
#include "tests/simulation/event_loop.h"
#include "tests/simulation/link.h"
#include "tests/simulation/promises.h"

namespace orrery {

struct TicketWorldSpec {
  int num_shards = 3;
  int num_tickets = 1000;
  int max_open = 3;
  LinkFaults faults;
  double crash = 0.0;                               // per frame that a shard receives
  double abandon = 0.0;                             // per ticket, at some moment of its patience
  absl::Duration patience = absl::Milliseconds(8);  // from dispatch to deadline
};

class TicketWorld {
 public:
  TicketWorld(EventLoop& loop, const TicketWorldSpec& spec);

  // Until every ticket is closed and nothing is under way any more.
  void Run();

  // What should not have happened, with the time; empty when all is well.
  const std::vector<std::string>& violations() const { return promises_.broken(); }
  const ReplyCounters& counters() const { return table_.counters(); }
  int num_closed() const { return num_closed_; }
  // Frames by their final TicketTable::FrameState.
  const std::map<TicketTable::FrameState, int>& final_states() const { return final_states_; }
  // Tickets given up before their deadline, and frames that a shard dropped for it or for a passed
  // deadline.
  int num_abandoned() const { return num_abandoned_; }
  int num_dropped() const { return num_dropped_; }
  // What shards ran.
  int num_groups() const { return num_groups_; }
  int num_frames_run() const { return num_frames_run_; }
  // Differs if two runs differ in anything that happened.
  uint64_t trace() const { return trace_; }

 private:
  struct OpenTicket {
    Ticket ticket;
    Lane lane = Lane::kDecode;
    uint64_t number = 0;  // what its rows carry
    std::vector<std::vector<DispatchEntry>> frames;
    std::vector<int> peers;
    std::set<uint32_t> accepted;
  };
  struct Shard {
    std::unique_ptr<Link> from_rank, to_rank;
    Inbox inbox;
    bool busy = false;
    bool up = true;
    int life = 0;  // replies of an earlier life are not sent
  };

  void DispatchNext();
  OpenTicket Plan();
  void SendFrames(const OpenTicket& open, int layer);
  void OnFrameAtShard(int peer, const std::string& bytes);
  void OnDispatch(int peer, const std::string& bytes);
  void OnAbandon(int peer, const std::string& bytes);
  void RunNextGroup(int peer);
  std::string RunFrame(const Inbound& inbound);
  void Crash(int peer);
  // Every frame is the peer's, or answered.
  static bool WaitsOnlyFor(const OpenTicket& open, int peer);
  void OnReply(int peer, const std::string& bytes);
  void CloseIfSettled(uint32_t slot);
  void Close(uint32_t slot);
  void TellShardsToDrop(const OpenTicket& open, const std::vector<TicketTable::Outcome>& outcomes);
  void CheckResults(const OpenTicket& open, size_t frame, const std::string& reply);
  void Trace(uint64_t value);

  EventLoop& loop_;
  const TicketWorldSpec spec_;
  TicketTable table_;
  std::vector<Shard> shards_;
  std::map<uint32_t, OpenTicket> open_;  // by slot
  uint64_t next_number_ = 1;
  int num_dispatched_ = 0;
  int num_closed_ = 0;
  int num_abandoned_ = 0;
  int num_dropped_ = 0;
  int num_groups_ = 0;
  int num_frames_run_ = 0;
  std::map<TicketTable::FrameState, int> final_states_;
  Promises promises_{[this] { return loop_.When(); }};
  uint64_t trace_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_SIMULATION_TICKET_WORLD_H_
