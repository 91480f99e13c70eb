// A router and its ranks in virtual time: the real RouterCore, ranks that step as the real PlanStep
// says, and between them messages that take their time. Ranks crash and come back, and so does the router,
// whose clients then resume; clients cancel, and a cache of a few blocks makes ranks preempt.
//
//   EventLoop loop(seed);
//   ClusterWorld world(loop, {.num_requests = 1000});
//   world.Run();
//   EXPECT_THAT(world.violations(), IsEmpty());
//
// A sequence's tokens are numbered here, so that a lost, repeated or foreign one is seen at once. A request
// that a rank has taken must end well, or by its client's wish: anything else is a violation.
#ifndef ORRERY_TESTS_SIMULATION_CLUSTER_WORLD_H_
#define ORRERY_TESTS_SIMULATION_CLUSTER_WORLD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "services/attention/scheduler.h"
#include "services/router/router_core.h"
#include "tests/simulation/event_loop.h"
#include "tests/simulation/promises.h"

namespace orrery {

struct ClusterWorldSpec {
  int num_ranks = 3;
  int num_requests = 1000;
  int max_waiting_requests = 4;
  int max_replays = 8;  // a rank's reserve
  SchedulerOptions scheduler = {
      .max_step_rows = 16, .max_prefill_rows = 8, .max_running = 4, .block_tokens = 8};
  int num_blocks = 12;  // a sequence needs at most (max_prompt_tokens + max_answer_tokens) / 8
  int max_prompt_tokens = 60;
  int max_answer_tokens = 20;
  // Mean time between two arrivals; a step takes about a millisecond.
  absl::Duration arrival_gap = absl::Milliseconds(8);
  double crash_per_step = 0.0;    // a rank dies in the middle of a step
  double cancel_per_token = 0.0;  // a client goes away after a token
  double router_crash_per_token = 0.0;
};

class ClusterWorld {
 public:
  ClusterWorld(EventLoop& loop, const ClusterWorldSpec& spec);

  // Until every request has ended and every rank is idle, at most an hour of virtual time.
  void Run();

  // Promises that were broken; empty is good.
  const std::vector<std::string>& violations() const { return promises_.broken(); }
  // How many requests ended with which code.
  const std::map<absl::StatusCode, int>& endings() const { return endings_; }
  int num_crashes() const { return num_crashes_; }
  int num_router_crashes() const { return num_router_crashes_; }
  int num_replays() const { return num_replays_; }
  int num_resumed() const { return num_resumed_; }
  int num_preemptions() const { return num_preemptions_; }

 private:
  struct Sequence {
    int64_t request = 0;
    bool is_replay = false;
    bool running = false;
    int num_tokens = 0;
    int num_computed = 0;
    int num_blocks = 0;
  };
  struct Rank {
    bool is_alive = true;
    bool is_stepping = false;
    int life = 0;  // counts restarts: messages of an earlier life are dropped
    std::map<SequenceId, Sequence> sequences;
    int64_t credit = 0;
    StepPlan plan;  // of the step under way
    int num_running() const;
    int num_waiting() const;
    int num_replays() const;
  };
  struct Request {
    int num_prompt_tokens = 0;
    int num_answer_tokens = 0;
    int num_received = 0;
    int rank = -1;
    int attempt = 0;
    bool is_resumed = false;
    bool was_taken = false;  // by a rank
    bool has_ended = false;
  };

  void Arrive(int64_t id);
  void Do(int64_t id, const Action& action);
  void Start(int64_t id, int rank, bool is_replay);
  void Retry(int64_t id, int attempt);
  void Step(int rank);
  // Asks the scheduler, and takes and gives back blocks as it says.
  void Plan(Rank& rank);
  void FinishStep(int rank, int life);
  void FinishSlice(Rank& rank, const StepSlice& slice);
  void Crash(int rank);
  void Describe(int rank);
  // To the router, after a while, unless the attempt is over by then.
  void SendToken(int64_t id, int attempt, int number);
  void SendEnd(int64_t id, int attempt, const absl::Status& status);
  void CrashRouter();
  void Resume(int64_t id, int attempt);
  void Cancel(int64_t id);
  void End(int64_t id, const absl::Status& status);
  absl::Duration Latency() { return loop_.Between(absl::Microseconds(20), absl::Milliseconds(2)); }

  EventLoop& loop_;
  const ClusterWorldSpec spec_;
  std::unique_ptr<RouterCore> core_;
  std::vector<Rank> ranks_;
  std::map<int64_t, Request> requests_;
  SequenceId next_sequence_ = 1;
  int num_ended_ = 0;
  int num_crashes_ = 0;
  int num_router_crashes_ = 0;
  int num_replays_ = 0;
  int num_resumed_ = 0;
  int num_preemptions_ = 0;
  std::map<absl::StatusCode, int> endings_;
  Promises promises_{[this] { return loop_.When(); }};
};

}  // namespace orrery

#endif  // ORRERY_TESTS_SIMULATION_CLUSTER_WORLD_H_
