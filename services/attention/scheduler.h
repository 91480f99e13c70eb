// Which sequences step now, and with how many rows each: a pure function over a snapshot.
//
//   StepPlan plan = PlanStep(snapshot, options);
//   for (id : plan.preempted) ...      // give their blocks back: they wait again
//   for (id : plan.admitted) ...       // they run from now on; take their cached blocks first
//   for (slice : plan.slices) ...      // run slice.num_rows rows of slice.id
//   tenants[i].credit = plan.credits[i];
//
// One step, in this order:
//   1. Blocks. Every running sequence has the blocks of all its known tokens, taken or set aside.
//      If the free ones do not suffice, the last in rank are preempted: those of the tenant with
//      most running sequences, there the lowest priority, then the newest. They are computed again
//      later, to the same bits. The first in rank is never preempted: it fits alone. In such a step
//      nobody is admitted.
//   2. Answers. Every running sequence with one known token left to compute gets that row, and a
//      row per draft.
//   3. Prompts. The rows that are left, up to max_prefill_rows if somebody is at 2, go in quanta of
//      kQuantumRows to the tenant with the largest credit: deficit round robin. It spends them on
//      its sequences, running or waiting, by priority, then by age; a waiting one is admitted when
//      its turn has come, so that nobody holds a place without using it.
// Tenants that yield come behind the others at 2 and 3: those that are a budget or more behind the
// credit of a tenant with a prompt. So the prompt of a tenant below its share takes whole steps, and
// what it leaves of a step goes to answers that yield as far as it suffices. How long these pause is
// bounded by the limit of credit: 2 * kMaxCreditSteps steps.
//
// Admission takes a place (max_running) and blocks for all known tokens, with one block to spare
// for every running sequence: for (block_tokens - num_drafts) / (1 + num_drafts) steps from then on
// nobody is preempted for blocks. The first that does not fit keeps the free blocks for itself:
// small ones never starve a large one. When nobody runs, it fits.
//
// Displacement: one sequence per step may be admitted at the cost of running ones, if that makes it
// fit. These are the last in rank, as long as all of this holds:
//   - their tenant has two more running than the candidate's, and so keeps at least as many;
//   - if it is blocks that are short, it also keeps at least as many of these;
//   - the candidate's tenant has no less credit, and if it has running sequences, a budget more.
// So nobody is displaced back, and places do not change hands between tenants that are served
// alike. Within a tenant a higher priority displaces a lower one.
//
// Credit is in rows, counted from the average of the tenants that have work: what a tenant got less
// than they did, while it was idle too. It is limited to kMaxCreditSteps budgets either way: that is
// what a tenant may claim at once after a time below its share. Two tenants with enough prompts get
// the same number of rows over any time, within 2 * kMaxCreditSteps budgets, unless places or
// blocks are what one of them lacks. Priority counts within a tenant only.
//
// Requirements: max_step_rows >= max_running * (1 + num_drafts), so that all answers fit at 2; if it
// is larger, they never keep all rows from prompts. The cache holds the longest sequence with its
// drafts and lookahead_tokens.
// No clock, no lock, no state: the same snapshot gives the same plan. Linear in the sequences.
#ifndef ORRERY_SERVICES_ATTENTION_SCHEDULER_H_
#define ORRERY_SERVICES_ATTENTION_SCHEDULER_H_

#include <cstdint>
#include <vector>

namespace orrery {

using SequenceId = uint64_t;

// Small enough that two tenants share a step, large enough that a chunk is worth its products.
inline constexpr int kQuantumRows = 16;
inline constexpr int kMaxCreditSteps = 4;

struct SchedulerOptions {
  int max_step_rows = 256;    // the budget
  int max_prefill_rows = 64;  // of it for prompts, while answers are running
  int max_running = 64;       // sequences
  int block_tokens = 64;      // tokens whose keys and values one block holds
  int lookahead_tokens = 0;   // positions behind a slice that the step writes too: a draft's
};

struct SequenceView {
  SequenceId id = 0;  // ascending by age
  int tenant = 0;     // index into Snapshot.tenants
  int priority = 0;   // higher first
  bool running = false;
  int num_tokens = 0;  // known: prompt and answer so far
  // Of these, whose keys and values stand in the cache; of a running one at least one is left to
  // compute. A waiting one: what the prefix cache would give it, at most all.
  int num_computed = 0;
  // Drafted tokens to verify behind the last known one. Ignored while more than that is uncomputed.
  int num_drafts = 0;
  // It uses now. A waiting sequence: of those that the prefix cache would give it, how many are in
  // use by others, that is, not among the free ones (0 is always safe).
  int num_blocks = 0;
  int num_own_blocks = 0;  // of these, used by no other sequence: what its preemption frees
};

struct TenantView {
  int64_t credit = 0;  // a new tenant's is 0
};

struct Snapshot {
  std::vector<SequenceView> sequences;  // by ascending id
  std::vector<TenantView> tenants;
  int num_free_blocks = 0;  // cached ones that nobody uses included
};

// Rows of one sequence in this step, from its num_computed on (drafts included, behind its tokens).
struct StepSlice {
  SequenceId id = 0;
  int num_rows = 0;
  bool operator==(const StepSlice&) const = default;
};

struct StepPlan {
  std::vector<SequenceId> preempted;  // for blocks (then none is admitted), or displaced
  std::vector<SequenceId> admitted;   // each has a slice
  std::vector<StepSlice> slices;      // by ascending id
  std::vector<int64_t> credits;       // of the tenants, afterwards
};

StepPlan PlanStep(const Snapshot& snapshot, const SchedulerOptions& options);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SCHEDULER_H_
