#include "tests/simulation/scheduler_world.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

const SequenceView& Find(const Snapshot& snapshot, SequenceId id) {
  return *std::find_if(snapshot.sequences.begin(), snapshot.sequences.end(),
                       [id](const SequenceView& view) { return view.id == id; });
}

bool Contains(const std::vector<SequenceId>& ids, SequenceId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

bool IsAnswering(const SequenceView& view) {
  return view.running && view.num_tokens - view.num_computed == 1;
}

bool SamePlan(const StepPlan& a, const StepPlan& b) {
  return a.preempted == b.preempted && a.admitted == b.admitted && a.slices == b.slices &&
         a.credits == b.credits;
}

// Before everyone else: of the tenants' first ones by priority and age, the oldest.
SequenceId FirstInRank(const Snapshot& snapshot) {
  std::map<int, SequenceView> first;  // by tenant
  for (const SequenceView& view : snapshot.sequences) {
    if (!view.running) continue;
    const auto [it, is_new] = first.emplace(view.tenant, view);
    if (!is_new && view.priority > it->second.priority) it->second = view;
  }
  SequenceId oldest = 0;
  for (const auto& [tenant, view] : first) {
    if (oldest == 0 || view.id < oldest) oldest = view.id;
  }
  return oldest;
}

}  // namespace

WorldBlocks::WorldBlocks(int num_blocks) : num_users_(num_blocks, 0), released_(num_blocks, 0) {
  for (int block = 0; block < num_blocks; ++block) free_.emplace(0, block);
}

int WorldBlocks::Take() {
  if (free_.empty()) return -1;
  const int block = free_.begin()->second;
  free_.erase(free_.begin());
  if (const auto it = content_.find(block); it != content_.end()) {
    by_content_.erase(it->second);
    content_.erase(it);
  }
  num_users_[block] = 1;
  return block;
}

int WorldBlocks::Find(const Content& content) const {
  const auto it = by_content_.find(content);
  return it == by_content_.end() ? -1 : it->second;
}

void WorldBlocks::Share(int block) {
  if (num_users_[block]++ == 0) free_.erase({released_[block], block});
}

void WorldBlocks::Release(int block) {
  if (--num_users_[block] > 0) return;
  released_[block] = content_.contains(block) ? ++clock_ : 0;
  free_.emplace(released_[block], block);
}

void WorldBlocks::Fill(int block, const Content& content) {
  if (by_content_.try_emplace(content, block).second) content_.emplace(block, content);
}

SchedulerWorld::SchedulerWorld(const Spec& spec)
    : spec_(spec),
      blocks_(spec.num_blocks),
      tenants_(spec.num_tenants),
      num_rows_(spec.num_tenants, 0),
      rng_(spec.seed) {}

SequenceId SchedulerWorld::Submit(const WorldRequest& request) {
  const SequenceId id = next_id_++;
  Sequence& sequence = sequences_[id];
  sequence.id = id;
  sequence.request = request;
  sequence.num_tokens = request.num_prompt_tokens;
  outcomes_[id].submitted = num_steps_;
  const int64_t most_tokens = int64_t{spec_.num_blocks} * spec_.scheduler.block_tokens;
  promises_.Expect(sequence.end_tokens() + spec_.scheduler.lookahead_tokens <= most_tokens,
                   "sequence ", id, " is longer than the cache");
  return id;
}

WorldBlocks::Content SchedulerWorld::ContentOf(const Sequence& sequence, int index) const {
  const int end = (index + 1) * spec_.scheduler.block_tokens;
  if (sequence.request.prefix != 0 && end <= sequence.request.num_prefix_tokens) {
    return {-sequence.request.prefix, index};
  }
  return {static_cast<int64_t>(sequence.id), index};
}

std::vector<int> SchedulerWorld::FindPrefix(const Sequence& sequence) const {
  std::vector<int> found;
  if (!spec_.keep_prefixes) return found;
  const int num_full = sequence.num_tokens / spec_.scheduler.block_tokens;
  for (int index = 0; index < num_full; ++index) {
    const int block = blocks_.Find(ContentOf(sequence, index));
    if (block < 0) break;
    found.push_back(block);
  }
  return found;
}

Snapshot SchedulerWorld::Look() const {
  Snapshot snapshot{.sequences = {}, .tenants = tenants_, .num_free_blocks = blocks_.num_free()};
  for (const auto& [id, sequence] : sequences_) {
    SequenceView view{.id = id,
                      .tenant = sequence.request.tenant,
                      .priority = sequence.request.priority,
                      .running = sequence.running,
                      .num_tokens = sequence.num_tokens,
                      .num_computed = sequence.num_computed,
                      .num_drafts = sequence.num_drafts};
    const std::vector<int> blocks = sequence.running ? sequence.blocks : FindPrefix(sequence);
    for (const int block : blocks) {
      view.num_blocks += blocks_.num_users(block) > 0;
      view.num_own_blocks += blocks_.num_users(block) == 1;
    }
    if (!sequence.running) {
      view.num_computed = static_cast<int>(blocks.size()) * spec_.scheduler.block_tokens;
      view.num_own_blocks = 0;
    }
    snapshot.sequences.push_back(view);
  }
  return snapshot;
}

void SchedulerWorld::Step() {
  const Snapshot snapshot = Look();
  const StepPlan plan = PlanStep(snapshot, spec_.scheduler);
  promises_.Expect(SamePlan(plan, PlanStep(snapshot, spec_.scheduler)),
                   "two plans for one snapshot");
  CheckPlan(snapshot, plan);
  for (const SequenceId id : plan.preempted) Preempt(sequences_.at(id));
  for (const SequenceId id : plan.admitted) Admit(sequences_.at(id));
  for (const StepSlice& slice : plan.slices) {
    Sequence& sequence = sequences_.at(slice.id);
    num_rows_[sequence.request.tenant] += slice.num_rows;
    if (!Run(sequence, slice.num_rows)) continue;
    for (const int block : sequence.blocks) blocks_.Release(block);
    outcomes_[slice.id].end = num_steps_;
    sequences_.erase(slice.id);
  }
  for (size_t t = 0; t < tenants_.size(); ++t) tenants_[t].credit = plan.credits[t];
  if (!plan.admitted.empty()) last_admission_ = num_steps_;
  ++num_steps_;
}

bool SchedulerWorld::RunUntilIdle(int64_t max_steps) {
  for (int64_t i = 0; i < max_steps && !sequences_.empty(); ++i) Step();
  return sequences_.empty();
}

void SchedulerWorld::Preempt(Sequence& sequence) {
  // The last block first, so that it is evicted first: a prefix is of use without its end.
  for (auto it = sequence.blocks.rbegin(); it != sequence.blocks.rend(); ++it) {
    blocks_.Release(*it);
  }
  num_steps_again_ += sequence.num_computed / spec_.scheduler.max_step_rows + 1;
  sequence.blocks.clear();
  sequence.running = false;
  sequence.num_computed = 0;
  sequence.num_drafts = 0;
  ++outcomes_[sequence.id].num_preemptions;
}

void SchedulerWorld::Admit(Sequence& sequence) {
  sequence.blocks = FindPrefix(sequence);
  for (const int block : sequence.blocks) blocks_.Share(block);
  const int num_cached = static_cast<int>(sequence.blocks.size()) * spec_.scheduler.block_tokens;
  sequence.num_computed = std::min(num_cached, sequence.num_tokens - 1);
  sequence.running = true;
}

bool SchedulerWorld::Run(Sequence& sequence, int num_rows) {
  const int block_tokens = spec_.scheduler.block_tokens;
  const int num_full_before = sequence.num_computed / block_tokens;
  const int end = sequence.num_computed + num_rows;
  while (static_cast<int>(sequence.blocks.size()) * block_tokens <
         end + spec_.scheduler.lookahead_tokens) {
    const int block = blocks_.Take();
    if (block < 0) {
      promises_.Break(absl::StrCat("no block for row ", end - 1, " of sequence ", sequence.id));
      return false;
    }
    sequence.blocks.push_back(block);
  }
  sequence.num_computed = std::min(end, sequence.num_tokens);
  if (end >= sequence.num_tokens) {
    WorldOutcome& outcome = outcomes_[sequence.id];
    if (outcome.first_token < 0) outcome.first_token = num_steps_;
    const int num_accepted = static_cast<int>(Below(sequence.num_drafts + 1));
    sequence.num_computed += num_accepted;
    sequence.num_tokens += 1 + num_accepted;
    const int num_left = sequence.end_tokens() - sequence.num_tokens;
    sequence.num_drafts = static_cast<int>(Below(std::clamp(num_left, 0, spec_.max_drafts) + 1));
  }
  if (spec_.keep_prefixes) {
    for (int index = num_full_before; (index + 1) * block_tokens <= sequence.num_computed;
         ++index) {
      blocks_.Fill(sequence.blocks[index], ContentOf(sequence, index));
    }
  }
  return sequence.num_tokens >= sequence.end_tokens();
}

void SchedulerWorld::CheckPlan(const Snapshot& snapshot, const StepPlan& plan) {
  CheckSlices(snapshot, plan);
  CheckPreemptions(snapshot, plan);
  for (const SequenceId id : plan.admitted) {
    promises_.Expect(!Find(snapshot, id).running, "sequence ", id, " was admitted twice");
    promises_.Expect(std::count_if(plan.slices.begin(), plan.slices.end(),
                                   [id](const StepSlice& slice) { return slice.id == id; }) == 1,
                     "sequence ", id, " was admitted for nothing");
  }
  for (const int64_t credit : plan.credits) {
    const int64_t limit = int64_t{kMaxCreditSteps} * spec_.scheduler.max_step_rows;
    promises_.Expect(-limit <= credit && credit <= limit, "a credit of ", credit);
  }
}

std::vector<bool> SchedulerWorld::MayYield(const Snapshot& snapshot) const {
  std::vector<bool> yields(snapshot.tenants.size(), false);
  for (const SequenceView& view : snapshot.sequences) {
    if (IsAnswering(view)) continue;
    const int64_t credit = snapshot.tenants[view.tenant].credit;
    for (size_t t = 0; t < yields.size(); ++t) {
      if (credit - snapshot.tenants[t].credit >= spec_.scheduler.max_step_rows) yields[t] = true;
    }
  }
  return yields;
}

void SchedulerWorld::CheckSlices(const Snapshot& snapshot, const StepPlan& plan) {
  const std::vector<bool> may_yield = MayYield(snapshot);
  int num_rows = 0, num_prompt_rows = 0, num_answers = 0, num_due = 0, num_running = 0;
  SequenceId last = 0;
  for (const StepSlice& slice : plan.slices) {
    const SequenceView& view = Find(snapshot, slice.id);
    promises_.Expect(slice.id > last, "slices out of order");
    last = slice.id;
    promises_.Expect(view.running || Contains(plan.admitted, slice.id), "sequence ", slice.id,
                     " steps, but does not run");
    promises_.Expect(!Contains(plan.preempted, slice.id), "sequence ", slice.id,
                     " steps, but was preempted");
    num_rows += slice.num_rows;
    if (IsAnswering(view)) {
      num_answers += !may_yield[view.tenant];
      promises_.Expect(slice.num_rows == 1 + view.num_drafts, slice.num_rows, " rows");
    } else {
      num_prompt_rows += slice.num_rows;
      const int num_left = std::max(1, view.num_tokens - view.num_computed);
      promises_.Expect(slice.num_rows >= 1 && slice.num_rows <= num_left, slice.num_rows,
                       " rows of ", num_left);
    }
  }
  for (const SequenceView& view : snapshot.sequences) {
    if (Contains(plan.preempted, view.id)) continue;
    num_running += view.running || Contains(plan.admitted, view.id);
    num_due += IsAnswering(view) && !may_yield[view.tenant];
  }
  promises_.Expect(num_answers == num_due, num_answers, " of ", num_due, " answers go on");
  promises_.Expect(num_rows <= spec_.scheduler.max_step_rows, num_rows, " rows in a step");
  promises_.Expect(num_answers == 0 || num_prompt_rows <= spec_.scheduler.max_prefill_rows,
                   num_prompt_rows, " rows of prompts beside ", num_answers, " answers");
  promises_.Expect(num_running <= spec_.scheduler.max_running, num_running, " run");
  promises_.Expect(!plan.slices.empty() || snapshot.sequences.empty(), "a step without rows");
}

void SchedulerWorld::CheckPreemptions(const Snapshot& snapshot, const StepPlan& plan) {
  if (plan.preempted.empty()) return;
  std::map<int, int> num_left, num_admitted;  // running sequences by tenant
  for (const SequenceView& view : snapshot.sequences) {
    num_left[view.tenant] += view.running && !Contains(plan.preempted, view.id);
    num_admitted[view.tenant] += Contains(plan.admitted, view.id);
  }
  for (const SequenceId id : plan.preempted) {
    const SequenceView& victim = Find(snapshot, id);
    promises_.Expect(victim.running, "sequence ", id, " was preempted, but waits");
    if (plan.admitted.empty()) {
      promises_.Expect(id != FirstInRank(snapshot), "sequence ", id, " was first in rank");
      // At the last admission every running sequence had a block to spare, so one must have filled
      // two since then.
      const int64_t num_rows =
          (num_steps_ - last_admission_) * (1 + spec_.max_drafts) + spec_.max_drafts;
      promises_.Expect(num_rows > spec_.scheduler.block_tokens, "preempted ",
                       num_steps_ - last_admission_, " steps after an admission");
      ++num_preempted_;
      continue;
    }
    ++num_displaced_;
    const auto may_displace = [&](SequenceId other) {
      const SequenceView& view = Find(snapshot, other);
      if (view.tenant == victim.tenant) return view.priority > victim.priority;
      return num_left[victim.tenant] + num_admitted[victim.tenant] > num_left[view.tenant];
    };
    promises_.Expect(std::any_of(plan.admitted.begin(), plan.admitted.end(), may_displace),
                     "sequence ", id, " was displaced by nobody who may");
  }
}

int SchedulerWorld::num_open(int tenant) const {
  return std::count_if(sequences_.begin(), sequences_.end(), [tenant](const auto& entry) {
    return entry.second.request.tenant == tenant;
  });
}

int SchedulerWorld::num_running(int tenant) const {
  return std::count_if(sequences_.begin(), sequences_.end(), [tenant](const auto& entry) {
    return entry.second.running && entry.second.request.tenant == tenant;
  });
}

int64_t SchedulerWorld::num_prompt_rows_left(int tenant) const {
  return std::accumulate(sequences_.begin(), sequences_.end(), int64_t{0},
                         [tenant](int64_t sum, const auto& entry) {
                           const Sequence& sequence = entry.second;
                           const int num_left = sequence.num_tokens - sequence.num_computed;
                           if (sequence.request.tenant != tenant) return sum;
                           return sum + (num_left > 1 ? num_left : 0);
                         });
}

}  // namespace orrery
