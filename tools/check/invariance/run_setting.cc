#include "tools/check/invariance/run_setting.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/kernels.h"
#include "services/attention/kv_cache.h"

namespace orrery {
namespace {

// Nothing takes as long; it only ends a check that hangs.
constexpr absl::Duration kTokenTimeout = absl::Minutes(10);
constexpr absl::Duration kExpertTimeout = absl::Minutes(5);

// An intruder that comes when its victim has just ended is tried again.
constexpr int kMaxIntruders = 50;

using Answers = std::vector<absl::StatusOr<AnswerRecord>>;

std::vector<int> OrderOf(const Setting& setting, int num_requests, uint64_t seed) {
  std::vector<int> order(num_requests);
  std::iota(order.begin(), order.end(), 0);
  if (setting.order == Setting::kGiven) return order;
  std::mt19937_64 random(seed);
  for (int i = num_requests - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
  return order;
}

// One rank's part of a setting.
class RankRun {
 public:
  RankRun(const Workload& workload, const Setting& setting, std::vector<int> requests)
      : workload_(workload), setting_(setting), requests_(std::move(requests)) {}

  absl::Status Start(const StepParts& parts) {
    ASSIGN_OR_RETURN(engine_, Engine::Start(parts, Options()));
    return absl::OkStatus();
  }
  // Every request of the rank once; answers[i] is that of request i.
  void Run(Answers& answers) {
    if (setting_.batch == 1) {
      for (int request : requests_) answers[request] = Take(Submit(request));
    } else {
      RunTogether(answers);
    }
  }
  EngineLoad load() const { return engine_->load(); }
  // Valid when everything has ended.
  std::vector<std::string> Faults() const;

 private:
  using Submitted = absl::StatusOr<std::shared_ptr<Outbox>>;

  EngineOptions Options() const;
  SchedulerOptions SchedulerLimits() const;
  int NumBlocks() const;
  Submitted Submit(int request) {
    return engine_->Submit(workload_.Request(request, setting_.IsSeeded(request), setting_.n));
  }
  absl::StatusOr<AnswerRecord> Take(const Submitted& submitted,
                                    const std::function<void()>& on_first_events = nullptr) const {
    RETURN_IF_ERROR(submitted.status());
    return RecordAnswer(**submitted, setting_.n, kTokenTimeout, on_first_events);
  }
  void RunTogether(Answers& answers);
  // Answers some requests again, with an intruder each, until one was preempted.
  void ForcePreemption(const Answers& answers);

  const Workload& workload_;
  const Setting setting_;
  const std::vector<int> requests_;
  std::vector<std::string> faults_;  // found on the way
  std::unique_ptr<Engine> engine_;
};

SchedulerOptions RankRun::SchedulerLimits() const {
  SchedulerOptions limits;
  limits.max_running = setting_.batch == 1 ? setting_.n : setting_.batch;
  // While answers are running, prompts get max_prefill_rows; a lone prompt gets max_step_rows.
  const int answer_rows = limits.max_running * (1 + setting_.drafts);
  limits.max_prefill_rows = setting_.chunk > 0 ? setting_.chunk : workload_.max_context_tokens;
  limits.max_step_rows = setting_.batch == 1 ? std::max(limits.max_prefill_rows, answer_rows)
                                             : limits.max_prefill_rows + answer_rows;
  return limits;
}

int RankRun::NumBlocks() const {
  const int least = KvCache::BlocksFor(workload_.max_context_tokens + setting_.drafts);
  if (setting_.cache == Setting::kTight) return least;
  int all = 0;
  for (int request : requests_) {
    const GenerationRequest& greedy = workload_.requests[request].greedy;
    const int num_tokens =
        static_cast<int>(greedy.prompt_ids.size()) + greedy.stop.max_new_tokens + setting_.drafts;
    all += setting_.n * KvCache::BlocksFor(num_tokens);
  }
  return std::max(all, least + 1);
}

EngineOptions RankRun::Options() const {
  EngineOptions options;
  options.scheduler = SchedulerLimits();
  // More than will ever be: nothing is refused.
  options.max_waiting_requests = 2 * static_cast<int>(requests_.size()) + kMaxIntruders;
  options.max_context_tokens = workload_.max_context_tokens;
  options.num_kv_blocks = NumBlocks();
  options.use_prefix_cache = setting_.prefix != Setting::kOff;
  options.num_draft_tokens = setting_.drafts;
  options.tokenizer = workload_.tokenizer.has_value() ? &*workload_.tokenizer : nullptr;
  options.expert_timeout = kExpertTimeout;
  return options;
}

void RankRun::RunTogether(Answers& answers) {
  // In a tight cache those of higher priority arrive when others run, and take their blocks.
  std::vector<int> first, later;
  for (int request : requests_) {
    const bool waits =
        setting_.cache == Setting::kTight && workload_.requests[request].greedy.priority > 0;
    (waits ? later : first).push_back(request);
  }
  if (first.empty()) std::swap(first, later);
  std::vector<Submitted> submitted, submitted_later;
  for (int request : first) submitted.push_back(Submit(request));
  const auto submit_later = [&] {
    for (int request : later) submitted_later.push_back(Submit(request));
  };
  for (size_t i = 0; i < first.size(); ++i) {
    answers[first[i]] = Take(submitted[i], i == 0 ? submit_later : std::function<void()>());
  }
  if (submitted_later.empty()) submit_later();
  for (size_t i = 0; i < later.size(); ++i) answers[later[i]] = Take(submitted_later[i]);
  if (setting_.cache == Setting::kTight) ForcePreemption(answers);
}

void RankRun::ForcePreemption(const Answers& answers) {
  for (int i = 0; i < kMaxIntruders && !requests_.empty(); ++i) {
    if (engine_->load().preemptions > 0) return;
    const int victim = requests_[i % requests_.size()];
    GenerationRequest intruder = workload_.intruder;
    intruder.tenant = workload_.requests[victim].greedy.tenant;
    Submitted submitted;
    const absl::StatusOr<AnswerRecord> again =
        Take(Submit(victim), [&] { submitted = engine_->Submit(intruder); });
    if (!again.ok() || !answers[victim].ok()) return;
    for (int choice = 0; choice < setting_.n; ++choice) {
      const std::string difference =
          FirstDifference(again->choices[choice], answers[victim]->choices[choice]);
      if (difference.empty()) continue;
      faults_.push_back(absl::StrCat("request ", victim, ", choice ", choice,
                                     ", once more beside an intruder: ", difference));
    }
    absl::Status status = submitted.status();
    if (status.ok()) status = RecordAnswer(**submitted, 1, kTokenTimeout).status();
    if (!status.ok()) faults_.push_back(absl::StrCat("an intruder: ", status.ToString()));
  }
}

std::vector<std::string> RankRun::Faults() const {
  std::vector<std::string> faults = faults_;
  const EngineLoad load = engine_->load();
  if (load.num_running + load.num_waiting > 0) {
    faults.push_back(absl::StrCat(load.num_running, " sequences still run and ", load.num_waiting,
                                  " wait after the end"));
  }
  if (load.num_free_kv_blocks != load.num_kv_blocks || load.num_leaked_kv_blocks != 0) {
    faults.push_back(absl::StrCat(load.num_kv_blocks - load.num_free_kv_blocks, " of ",
                                  load.num_kv_blocks, " cache blocks are not free after the end, ",
                                  load.num_leaked_kv_blocks, " leaked"));
  }
  const auto is_longer_than_block = [&](int request) {
    return workload_.requests[request].greedy.prompt_ids.size() > kKvBlockTokens;
  };
  // (A tight cache may have evicted everything by the second pass.)
  if (setting_.prefix == Setting::kWarm && setting_.cache == Setting::kAmple &&
      load.prefix_hit_tokens == 0 &&
      std::any_of(requests_.begin(), requests_.end(), is_longer_than_block)) {
    faults.push_back("not exercised: the warm prefix cache had no hit");
  }
  if (setting_.prefix == Setting::kOff && load.prefix_hit_tokens > 0) {
    faults.push_back(
        absl::StrCat(load.prefix_hit_tokens, " tokens came from a prefix cache that is off"));
  }
  if (setting_.cache == Setting::kTight && !requests_.empty() && load.preemptions == 0) {
    faults.push_back(absl::StrCat("not exercised: nothing was preempted in a cache of ",
                                  load.num_kv_blocks, " blocks"));
  }
  if (setting_.drafts > 0 && !requests_.empty() && load.drafted_tokens == 0) {
    faults.push_back("not exercised: MTP drafted nothing");
  }
  return faults;
}

}  // namespace

absl::StatusOr<SettingRun> RunSetting(const LocalCluster& cluster, const Workload& workload,
                                      const Setting& setting, uint64_t seed) {
  const int num_requests = static_cast<int>(workload.requests.size());
  const std::vector<int> order = OrderOf(setting, num_requests, seed);
  std::vector<std::unique_ptr<RankRun>> ranks;
  for (int r = 0; r < cluster.num_ranks(); ++r) {
    std::vector<int> requests;
    for (int i = r; i < num_requests; i += cluster.num_ranks()) requests.push_back(order[i]);
    ranks.push_back(std::make_unique<RankRun>(workload, setting, std::move(requests)));
    RETURN_IF_ERROR(ranks.back()->Start(cluster.parts(r)));
  }
  SettingRun run;
  for (int pass = 0; pass < (setting.prefix == Setting::kWarm ? 2 : 1); ++pass) {
    Answers& answers = run.passes.emplace_back(num_requests);
    std::vector<std::thread> threads;
    for (const auto& rank : ranks) threads.emplace_back([&answers, &rank] { rank->Run(answers); });
    for (std::thread& thread : threads) thread.join();
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    run.loads.push_back(ranks[r]->load());
    for (const std::string& fault : ranks[r]->Faults()) {
      run.faults.push_back(absl::StrCat("rank ", r, ": ", fault));
    }
  }
  return run;
}

}  // namespace orrery
