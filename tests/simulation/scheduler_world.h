// The sequences, cache blocks and tokens of one attention rank around the real PlanStep, one step
// after the other. There is no model: a row costs nothing, and a token has no value.
//
//   SchedulerWorld world({.scheduler = {.max_running = 8}, .num_blocks = 128, .num_tenants = 2});
//   world.Submit({.tenant = 1, .num_prompt_tokens = 500, .num_answer_tokens = 100});
//   world.RunUntilIdle(10'000);
//   EXPECT_THAT(world.violations(), IsEmpty());
//
// Every step is checked against what scheduler.h promises: budgets, places, ranks, that the planned
// rows find free blocks, and that who is preempted for blocks has run for a while. The same spec
// and calls give the same run.
#ifndef ORRERY_TESTS_SIMULATION_SCHEDULER_WORLD_H_
#define ORRERY_TESTS_SIMULATION_SCHEDULER_WORLD_H_

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/attention/scheduler.h"
#include "tests/simulation/promises.h"

namespace orrery {

// Blocks by number: who uses them, and what the unused ones still hold (the oldest is reused
// first).
class WorldBlocks {
 public:
  using Content = std::pair<int64_t, int>;  // whose tokens, and which block of them

  explicit WorldBlocks(int num_blocks);
  int num_free() const { return static_cast<int>(free_.size()); }
  int num_users(int block) const { return num_users_[block]; }
  // -1 if no block is free.
  int Take();
  // The block that holds it, in use or not; -1 if none does.
  int Find(const Content& content) const;
  void Share(int block);
  void Release(int block);
  // What it holds, from now on findable, unless another block is known to hold it.
  void Fill(int block, const Content& content);

 private:
  std::vector<int> num_users_;
  std::vector<int64_t> released_;           // when
  std::set<std::pair<int64_t, int>> free_;  // by time of release
  std::map<Content, int> by_content_;
  std::map<int, Content> content_;
  int64_t clock_ = 0;
};

struct WorldRequest {
  int tenant = 0;
  int priority = 0;
  int num_prompt_tokens = 1;
  int num_answer_tokens = 1;
  // Requests with the same number, not 0, begin with the same num_prefix_tokens.
  int prefix = 0;
  int num_prefix_tokens = 0;
};

struct WorldOutcome {
  int64_t submitted = 0;  // steps
  int64_t first_token = -1;
  int64_t end = -1;
  int num_preemptions = 0;
};

class SchedulerWorld {
 public:
  struct Spec {
    SchedulerOptions scheduler;
    int num_blocks = 0;
    int num_tenants = 1;
    bool keep_prefixes = false;
    int max_drafts = 0;
    uint64_t seed = 1;
  };
  explicit SchedulerWorld(const Spec& spec);

  SequenceId Submit(const WorldRequest& request);
  void Step();
  // False if sequences are left after so many steps.
  bool RunUntilIdle(int64_t max_steps);

  int64_t num_steps() const { return num_steps_; }
  int num_open(int tenant) const;
  int num_running(int tenant) const;
  // Rows of its open prompts that are not computed yet.
  int64_t num_prompt_rows_left(int tenant) const;
  int64_t num_rows(int tenant) const { return num_rows_[tenant]; }
  int64_t credit(int tenant) const { return tenants_[tenant].credit; }
  const WorldOutcome& outcome(SequenceId id) const { return outcomes_.at(id); }
  int num_preempted() const { return num_preempted_; }  // for blocks
  int num_displaced() const { return num_displaced_; }
  // What it takes to compute again what was set back, when nothing else is done meanwhile.
  int64_t num_steps_again() const { return num_steps_again_; }
  // Promises that were broken; empty is good.
  const std::vector<std::string>& violations() const { return promises_.broken(); }
  int64_t Below(int64_t limit) { return static_cast<int64_t>(rng_() % limit); }

 private:
  struct Sequence {
    SequenceId id = 0;
    WorldRequest request;
    bool running = false;
    int num_tokens = 0;
    int num_computed = 0;
    int num_drafts = 0;
    std::vector<int> blocks;
    int end_tokens() const { return request.num_prompt_tokens + request.num_answer_tokens; }
  };

  Snapshot Look() const;
  // How many blocks of it the cache holds.
  std::vector<int> FindPrefix(const Sequence& sequence) const;
  WorldBlocks::Content ContentOf(const Sequence& sequence, int index) const;
  void CheckPlan(const Snapshot& snapshot, const StepPlan& plan);
  // By tenant: whether another one with prompts is a budget ahead, so that its answers may pause.
  std::vector<bool> MayYield(const Snapshot& snapshot) const;
  void CheckSlices(const Snapshot& snapshot, const StepPlan& plan);
  void CheckPreemptions(const Snapshot& snapshot, const StepPlan& plan);
  void Preempt(Sequence& sequence);
  void Admit(Sequence& sequence);
  // Takes its blocks and computes. True when the answer is complete.
  bool Run(Sequence& sequence, int num_rows);

  const Spec spec_;
  WorldBlocks blocks_;
  std::map<SequenceId, Sequence> sequences_;
  std::map<SequenceId, WorldOutcome> outcomes_;
  std::vector<TenantView> tenants_;
  std::vector<int64_t> num_rows_;  // [tenants]
  SequenceId next_id_ = 1;
  int64_t num_steps_ = 0;
  int64_t last_admission_ = -1;
  int num_preempted_ = 0;
  int num_displaced_ = 0;
  int64_t num_steps_again_ = 0;
  Promises promises_{[this] { return absl::StrCat("step ", num_steps_); }};
  std::mt19937_64 rng_;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_SIMULATION_SCHEDULER_WORLD_H_
