#include "services/attention/scheduler.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"

namespace orrery {
namespace {

int64_t FloorDivide(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// A plan in the making. Sequences are named by their index in the snapshot.
class Planner {
 public:
  Planner(const Snapshot& snapshot, const SchedulerOptions& options)
      : snapshot_(snapshot),
        options_(options),
        tenants_(snapshot.tenants.size()),
        rows_(snapshot.sequences.size(), 0),
        spare_blocks_(snapshot.num_free_blocks) {
    SortIntoTenants();
  }

  StepPlan Plan() {
    PreemptForBlocks();
    FindYielding();
    for (const bool yields : {false, true}) {
      GrantAnswerRows(yields);
      GrantPromptRows(yields);
    }
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i] > 0) plan_.slices.push_back({View(i).id, rows_[i]});
    }
    UpdateCredits();
    return std::move(plan_);
  }

 private:
  struct Tenant {
    std::vector<int> running;  // by rank
    std::vector<int> waiting;  // a heap: the first in rank at its front
    int64_t num_rows = 0;      // in this step
    int64_t num_blocks = 0;    // of those that run, taken or set aside
    bool has_work = false;
    bool may_admit = true;
    bool yields = false;  // to tenants that are a budget ahead in credit
  };

  const SequenceView& View(int i) const { return snapshot_.sequences[i]; }
  Tenant& TenantOf(int i) { return tenants_[View(i).tenant]; }
  // The order within a tenant.
  bool Outranks(int a, int b) const {
    return View(a).priority != View(b).priority ? View(a).priority > View(b).priority : a < b;
  }
  // Of a tenant, after the rows planned so far.
  int64_t CreditLeft(int tenant) const {
    return snapshot_.tenants[tenant].credit - tenants_[tenant].num_rows;
  }
  // Front of a heap: the first in rank.
  auto HeapOrder() const {
    return [this](int a, int b) { return Outranks(b, a); };
  }
  // Rows of known tokens that it has to compute. Even a prompt that the prefix cache covers has
  // one: it gives the next token.
  int KnownRows(int i) const { return std::max(1, View(i).num_tokens - View(i).num_computed); }
  int NumDrafts(int i) const { return KnownRows(i) == 1 ? View(i).num_drafts : 0; }
  bool IsAnswer(int i) const { return View(i).running && KnownRows(i) == 1; }
  // What it takes to hold its known tokens, and of that what it does not use yet.
  int BlocksOf(int i) const {
    const int num_positions = View(i).num_tokens + NumDrafts(i) + options_.lookahead_tokens;
    return (num_positions + options_.block_tokens - 1) / options_.block_tokens;
  }
  int MissingBlocks(int i) const {
    const bool counts = View(i).running || counts_shared_;
    return std::max(0, BlocksOf(i) - (counts ? View(i).num_blocks : 0));
  }

  void SortIntoTenants();
  void PreemptForBlocks();
  void FindYielding();
  // To the tenants that yield, or to the others.
  void GrantAnswerRows(bool yields);
  void GrantPromptRows(bool yields);
  void UpdateCredits();

  // The tenant with the largest credit that can use more rows, and its sequence.
  std::optional<int> NextPrompt(std::vector<int>& contenders);
  // The tenant's first sequence, admitted if need be, that has rows to compute.
  std::optional<int> FirstPrompt(Tenant& tenant);
  bool Admit(int candidate);
  // Whether the blocks suffice for the candidate beside those that run.
  bool HasBlocks(int candidate) const;
  bool Fits(int candidate) const {
    return num_running_ < options_.max_running && HasBlocks(candidate);
  }
  // Makes it fit at the cost of others, or changes nothing.
  bool Displace(int candidate);
  std::optional<int> FindDisplaceable(int candidate);
  // The last in rank of the tenant with most running sequences. Of equals the newest.
  int LastInRank() const;
  // Suspend takes the last in rank of its tenant; Resume takes that back.
  void Suspend(int victim);
  void Resume(int victim);

  const Snapshot& snapshot_;
  const SchedulerOptions& options_;
  std::vector<Tenant> tenants_;
  std::vector<int> rows_;  // [sequences] in this step
  int num_answer_rows_ = 0;
  int num_prompt_rows_ = 0;
  int num_running_ = 0;
  int spare_blocks_ = 0;  // free, and not set aside for a running sequence
  // Blocks that a waiting sequence would share with running ones cost nothing, unless those are
  // displaced: then such blocks would count twice. A plan does one or the other.
  bool counts_shared_ = true;
  bool has_shared_ = false;
  bool has_displaced_ = false;
  StepPlan plan_;
};

void Planner::SortIntoTenants() {
  for (size_t i = 0; i < rows_.size(); ++i) {
    ORRERY_CHECK(i == 0 || View(i - 1).id < View(i).id)
        << "id " << View(i).id << " is out of order";
    ORRERY_CHECK(View(i).tenant >= 0 && View(i).tenant < static_cast<int>(tenants_.size()))
        << "sequence " << View(i).id << ": tenant " << View(i).tenant << " of " << tenants_.size();
    ORRERY_CHECK(!View(i).running || View(i).num_computed < View(i).num_tokens)
        << "sequence " << View(i).id << " runs, but all of its " << View(i).num_tokens
        << " tokens are computed";
    Tenant& tenant = TenantOf(i);
    tenant.has_work = true;
    if (View(i).running) {
      tenant.running.push_back(i);
      tenant.num_blocks += BlocksOf(i);
      ++num_running_;
      spare_blocks_ -= MissingBlocks(i);
    } else {
      tenant.waiting.push_back(i);
    }
  }
  for (Tenant& tenant : tenants_) {
    std::sort(tenant.running.begin(), tenant.running.end(),
              [this](int a, int b) { return Outranks(a, b); });
    std::make_heap(tenant.waiting.begin(), tenant.waiting.end(), HeapOrder());
  }
}

void Planner::PreemptForBlocks() {
  // Blocks shared by victims only are freed too, but not counted: the last one is not asked whether
  // it fits.
  while (spare_blocks_ < 0 && num_running_ > 1) {
    const int victim = LastInRank();
    Suspend(victim);
    plan_.preempted.push_back(View(victim).id);
  }
  if (plan_.preempted.empty()) return;
  for (Tenant& tenant : tenants_) tenant.may_admit = false;
}

void Planner::FindYielding() {
  std::optional<int64_t> most;  // credit of a tenant with prompts
  for (size_t t = 0; t < tenants_.size(); ++t) {
    const bool has_prompts = !tenants_[t].waiting.empty() ||
                             !std::all_of(tenants_[t].running.begin(), tenants_[t].running.end(),
                                          [this](int i) { return IsAnswer(i); });
    if (has_prompts) most = std::max(most.value_or(CreditLeft(t)), CreditLeft(t));
  }
  for (size_t t = 0; most.has_value() && t < tenants_.size(); ++t) {
    tenants_[t].yields = *most - CreditLeft(t) >= options_.max_step_rows;
  }
}

void Planner::GrantAnswerRows(bool yields) {
  for (Tenant& tenant : tenants_) {
    if (tenant.yields != yields) continue;
    for (const int i : tenant.running) {
      if (!IsAnswer(i)) continue;
      const int num_rows = 1 + NumDrafts(i);
      const bool fits = num_answer_rows_ + num_prompt_rows_ + num_rows <= options_.max_step_rows;
      ORRERY_CHECK(fits || yields) << num_answer_rows_ + num_rows
                                   << " rows of answers in a step of " << options_.max_step_rows;
      if (!fits) continue;
      rows_[i] = num_rows;
      tenant.num_rows += num_rows;
      num_answer_rows_ += num_rows;
    }
  }
}

void Planner::GrantPromptRows(bool yields) {
  std::vector<int> contenders;
  for (size_t t = 0; t < tenants_.size(); ++t) {
    if (tenants_[t].has_work && tenants_[t].yields == yields) contenders.push_back(t);
  }
  int rows_left = options_.max_step_rows - num_answer_rows_ - num_prompt_rows_;
  if (num_answer_rows_ > 0) {
    rows_left = std::min(rows_left, options_.max_prefill_rows - num_prompt_rows_);
  }
  while (rows_left > 0) {
    const std::optional<int> i = NextPrompt(contenders);
    if (!i.has_value()) return;
    const int num_rows = std::min({kQuantumRows, rows_left, KnownRows(*i) - rows_[*i]});
    rows_[*i] += num_rows;
    TenantOf(*i).num_rows += num_rows;
    num_prompt_rows_ += num_rows;
    rows_left -= num_rows;
  }
}

std::optional<int> Planner::NextPrompt(std::vector<int>& contenders) {
  const auto has_less_credit = [this](int a, int b) {
    return CreditLeft(a) != CreditLeft(b) ? CreditLeft(a) < CreditLeft(b) : a > b;
  };
  while (!contenders.empty()) {
    const auto best = std::max_element(contenders.begin(), contenders.end(), has_less_credit);
    if (const std::optional<int> i = FirstPrompt(tenants_[*best]); i.has_value()) return i;
    *best = contenders.back();
    contenders.pop_back();
  }
  return std::nullopt;
}

std::optional<int> Planner::FirstPrompt(Tenant& tenant) {
  const auto first = std::find_if(tenant.running.begin(), tenant.running.end(), [this](int i) {
    return !IsAnswer(i) && rows_[i] < KnownRows(i);
  });
  const std::optional<int> running =
      first == tenant.running.end() ? std::nullopt : std::optional<int>(*first);
  if (!tenant.may_admit || tenant.waiting.empty()) return running;
  const int candidate = tenant.waiting.front();
  if (running.has_value() && Outranks(*running, candidate)) return running;
  tenant.may_admit = Admit(candidate);
  return tenant.may_admit ? candidate : running;
}

bool Planner::Admit(int candidate) {
  if (!Fits(candidate) && !Displace(candidate)) {
    // What is free is kept for it; those behind it may still displace.
    if (!HasBlocks(candidate)) spare_blocks_ = std::min(spare_blocks_, num_running_);
    return false;
  }
  Tenant& tenant = TenantOf(candidate);
  std::pop_heap(tenant.waiting.begin(), tenant.waiting.end(), HeapOrder());
  tenant.waiting.pop_back();
  const auto place = std::find_if(tenant.running.begin(), tenant.running.end(),
                                  [&](int i) { return Outranks(candidate, i); });
  tenant.running.insert(place, candidate);
  tenant.num_blocks += BlocksOf(candidate);
  ++num_running_;
  spare_blocks_ -= MissingBlocks(candidate);
  has_shared_ |= counts_shared_ && View(candidate).num_blocks > 0;
  plan_.admitted.push_back(View(candidate).id);
  return true;
}

bool Planner::HasBlocks(int candidate) const {
  if (num_running_ == 0) return true;  // it fits alone
  const int num_running_then = num_running_ + 1;
  return MissingBlocks(candidate) + num_running_then <= spare_blocks_;
}

bool Planner::Displace(int candidate) {
  if (has_displaced_ || has_shared_) return false;
  counts_shared_ = false;
  std::vector<int> victims;
  while (!Fits(candidate)) {
    const std::optional<int> victim = FindDisplaceable(candidate);
    if (!victim.has_value()) {
      for (; !victims.empty(); victims.pop_back()) Resume(victims.back());
      counts_shared_ = true;
      return false;
    }
    Suspend(*victim);
    victims.push_back(*victim);
  }
  for (const int victim : victims) {
    TenantOf(victim).num_rows -= rows_[victim];
    rows_[victim] = 0;
    plan_.preempted.push_back(View(victim).id);
  }
  has_displaced_ = true;
  return true;
}

std::optional<int> Planner::FindDisplaceable(int candidate) {
  if (num_running_ == 0) return std::nullopt;
  const Tenant& tenant = TenantOf(candidate);
  const int last = LastInRank();
  const int64_t lead = CreditLeft(View(candidate).tenant) - CreditLeft(View(last).tenant);
  std::optional<int> victim;
  if (TenantOf(last).running.size() >= tenant.running.size() + 2 &&
      lead >= (tenant.running.empty() ? 0 : options_.max_step_rows) &&
      (HasBlocks(candidate) ||
       TenantOf(last).num_blocks - BlocksOf(last) >= tenant.num_blocks + BlocksOf(candidate))) {
    victim = last;
  } else if (!tenant.running.empty() &&
             View(tenant.running.back()).priority < View(candidate).priority) {
    victim = tenant.running.back();
  }
  // Not one that this plan admits.
  return victim.has_value() && View(*victim).running ? victim : std::nullopt;
}

int Planner::LastInRank() const {
  const Tenant* largest = &tenants_.front();
  for (const Tenant& tenant : tenants_) {
    if (tenant.running.size() > largest->running.size() ||
        (tenant.running.size() == largest->running.size() && !tenant.running.empty() &&
         tenant.running.back() > largest->running.back())) {
      largest = &tenant;
    }
  }
  return largest->running.back();
}

void Planner::Suspend(int victim) {
  Tenant& tenant = TenantOf(victim);
  tenant.running.pop_back();
  tenant.num_blocks -= BlocksOf(victim);
  --num_running_;
  spare_blocks_ += View(victim).num_own_blocks + MissingBlocks(victim);
}

void Planner::Resume(int victim) {
  Tenant& tenant = TenantOf(victim);
  tenant.running.push_back(victim);
  tenant.num_blocks += BlocksOf(victim);
  ++num_running_;
  spare_blocks_ -= View(victim).num_own_blocks + MissingBlocks(victim);
}

void Planner::UpdateCredits() {
  int64_t sum = 0;
  int64_t num_busy = 0;
  for (size_t t = 0; t < tenants_.size(); ++t) {
    plan_.credits.push_back(snapshot_.tenants[t].credit - tenants_[t].num_rows);
    if (!tenants_[t].has_work) continue;
    sum += plan_.credits.back();
    ++num_busy;
  }
  // All by the same amount, so that only differences count and no rounding adds up.
  const int64_t earned = num_busy == 0 ? 0 : -FloorDivide(sum, num_busy);
  const int64_t limit = int64_t{kMaxCreditSteps} * options_.max_step_rows;
  for (size_t t = 0; t < tenants_.size(); ++t) {
    plan_.credits[t] = std::clamp(plan_.credits[t] + earned, -limit, limit);
  }
}

}  // namespace

StepPlan PlanStep(const Snapshot& snapshot, const SchedulerOptions& options) {
  return Planner(snapshot, options).Plan();
}

}  // namespace orrery
