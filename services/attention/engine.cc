#include "services/attention/engine.h"

#include <algorithm>
#include <random>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/log.h"
#include "services/attention/request_bytes.h"

namespace orrery {
namespace {

// Idle tenants whose credit is remembered.
constexpr size_t kMaxTenants = 1024;
// A megabyte of token ids: a small cache is no reason to let little wait for it.
constexpr int64_t kLeastWaitingTokens = 1 << 18;

// Keys the hashes of the prefix cache, so that nobody outside can construct collisions.
uint64_t DrawHashKey() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

EngineOptions Complete(EngineOptions options) {
  options.scheduler.block_tokens = kKvBlockTokens;
  // A draft's keys and values stand behind the last known token.
  options.scheduler.lookahead_tokens = options.num_draft_tokens;
  if (options.max_waiting_tokens == 0) {
    options.max_waiting_tokens =
        std::max<int64_t>(int64_t{4} * options.num_kv_blocks * kKvBlockTokens, kLeastWaitingTokens);
  }
  return options;
}

// By peer.
std::vector<std::string> ShardNames(const ExpertDirectory* directory) {
  std::vector<std::string> names;
  if (directory == nullptr) return names;
  for (int shard = 0; shard < directory->num_shards(); ++shard) {
    names.push_back(directory->shard_name(shard));
  }
  return names;
}

StepParts WithMetrics(StepParts parts, RankMetrics* metrics) {
  parts.metrics = metrics;
  return parts;
}

Admission::Visit VisitOf(const GenerationRequest& asked) {
  return {.tenant = asked.tenant,
          .num_tokens = static_cast<int64_t>(asked.prompt_ids.size()) * asked.num_choices,
          .num_bytes = RequestBytes(asked),
          .is_replay = asked.is_replay(),
          .deadline = asked.deadline,
          .started_at = std::nullopt};
}

}  // namespace

Engine::Engine(const StepParts& parts, const EngineOptions& options)
    : metrics_(ShardNames(parts.directory)),
      parts_(WithMetrics(parts, &metrics_)),
      options_(Complete(options)),
      config_(parts.model->config),
      pool_({.num_blocks = options.num_kv_blocks,
             .block_tokens = kKvBlockTokens,
             .keep_prefixes = options.use_prefix_cache,
             .hash_key = DrawHashKey()}),
      admission_({.max_open = options.max_waiting_requests + options.scheduler.max_running,
                  .max_waiting_tokens = options_.max_waiting_tokens,
                  .max_bytes = options_.max_request_bytes}) {}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Start(const StepParts& parts,
                                                      const EngineOptions& options) {
  RETURN_IF_ERROR(CheckOptions(*parts.model, options));
  std::unique_ptr<Engine> engine(new Engine(parts, options));
  ASSIGN_OR_RETURN(engine->step_, Step::Create(engine->parts_, StepOptionsOf(options)));
  ASSIGN_OR_RETURN(engine->cache_,
                   KvCache::Create(*parts.model, options.num_kv_blocks, parts.device));
  engine->Publish();
  engine->loop_ = std::thread([raw = engine.get()] { raw->Loop(); });
  return engine;
}

StepOptions Engine::StepOptionsOf(const EngineOptions& options) {
  // Every running sequence may want a row of log-probabilities for each of its drafts, too. (A prompt
  // with several choices needs one row for all of them.)
  return {.max_rows = options.scheduler.max_step_rows,
          .max_logit_rows = options.scheduler.max_running * (1 + options.num_draft_tokens)};
}

Engine::~Engine() { Stop(); }

void Engine::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  give_up_ = true;
  arrived_.notify_one();
  if (loop_.joinable()) loop_.join();
  courier_.Stop();
}

absl::StatusOr<std::shared_ptr<Outbox>> Engine::Submit(GenerationRequest asked,
                                                       std::function<void()> on_news) {
  RETURN_IF_ERROR(Validate(asked));
  auto request = std::make_shared<OpenRequest>();
  request->num_open_choices =
      asked.num_choices -
      static_cast<int>(std::count_if(asked.so_far.begin(), asked.so_far.end(),
                                     [](const ChoiceSoFar& choice) { return choice.has_ended; }));
  request->asked = std::move(asked);
  request->visit = VisitOf(request->asked);
  if (request->asked.sampling.repetition_penalty != 1.0f) {
    request->prompt.insert(request->asked.prompt_ids.begin(), request->asked.prompt_ids.end());
  }
  request->outbox = std::make_shared<Outbox>(std::move(on_news));
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return absl::UnavailableError("this rank is stopping");
    RETURN_IF_ERROR(TakePlace(request));
    inbox_.push_back(request);
  }
  arrived_.notify_one();
  return request->outbox;
}

absl::Status Engine::TakePlace(const std::shared_ptr<OpenRequest>& request) {
  const GenerationRequest& asked = request->asked;
  const auto earlier = by_id_.find(asked.request_id);
  if (earlier != by_id_.end() && earlier->second->asked.attempt > asked.attempt) {
    return absl::AbortedError("a later attempt of this request is here already");
  }
  admission_.SetUnread(*unread_bytes_, *unread_replay_bytes_);
  RETURN_IF_ERROR(admission_.Take(request->visit, absl::Now()));
  if (earlier != by_id_.end()) earlier->second->is_superseded = true;
  if (!asked.request_id.empty()) by_id_[asked.request_id] = request;
  return absl::OkStatus();
}

EngineLoad Engine::load() const {
  std::lock_guard lock(mutex_);
  EngineLoad load = load_;
  load.num_waiting += static_cast<int>(inbox_.size());
  return load;
}

void Engine::Loop() {
  while (TakeRequests()) {
    DropUnwanted();
    std::vector<Part> parts = Apply(Plan());
    Publish();  // not only when the step is done: it may take a while
    if (!parts.empty()) RunTurn(parts);
    DropDoubtful();
    Publish();
  }
  std::set<std::shared_ptr<OpenRequest>> open;
  for (const auto& [id, sequence] : sequences_) open.insert(sequence->request);
  for (const auto& request : open) {
    EndRequest(request, absl::UnavailableError("this rank is stopping"));
  }
  Publish();
}

bool Engine::TakeRequests() {
  std::vector<std::shared_ptr<OpenRequest>> taken;
  bool stopping = false;
  {
    std::unique_lock lock(mutex_);
    metrics_.heartbeat.Rest();
    // Nobody else brings work, so an idle loop may sleep until somebody does.
    arrived_.wait(lock, [this] { return stopping_ || !inbox_.empty() || !sequences_.empty(); });
    metrics_.heartbeat.Beat();
    taken = std::exchange(inbox_, {});
    stopping = stopping_;
  }
  for (auto& request : taken) Open(std::move(request));
  return !stopping;
}

void Engine::Open(std::shared_ptr<OpenRequest> request) {
  counters_.tokens_in += static_cast<int64_t>(request->asked.prompt_ids.size());
  bool computes_prompt = false;  // one that was opened does
  std::vector<std::pair<Sequence*, AnswerEnd>> complete;
  for (int choice = 0; choice < request->asked.num_choices; ++choice) {
    if (request->asked.is_replay() && request->asked.so_far[choice].has_ended) continue;
    auto opened = std::make_unique<Sequence>(next_id_++, request, choice, computes_prompt,
                                             options_.tokenizer);
    Sequence& sequence = *opened;
    sequences_.emplace(sequence.id, std::move(opened));
    ++tenants_[request->asked.tenant].num_sequences;
    const auto end = Replay(sequence.ids_so_far(), choice, sequence.answer);
    ORRERY_CHECK(end.ok()) << end.status();  // Submit has checked it
    if (end->has_value()) {
      complete.emplace_back(&sequence, **end);
    } else {
      computes_prompt = true;
    }
  }
  for (const auto& [sequence, end] : complete) EndChoice(*sequence, end);
}

absl::Status Engine::WhyUnwanted(const OpenRequest& request, absl::Time now) {
  if (request.is_superseded) return absl::AbortedError("a later attempt of this request has come");
  if (request.outbox->cancelled()) return absl::CancelledError("the client has gone away");
  if (now >= request.asked.deadline) {
    return absl::DeadlineExceededError("the request's deadline passed");
  }
  return absl::OkStatus();
}

void Engine::DropUnwanted() {
  const absl::Time now = absl::Now();
  std::map<std::shared_ptr<OpenRequest>, absl::Status> unwanted;
  for (const auto& [id, sequence] : sequences_) {
    absl::Status why = WhyUnwanted(*sequence->request, now);
    if (!why.ok()) unwanted.emplace(sequence->request, std::move(why));
  }
  for (const auto& [request, why] : unwanted) EndRequest(request, why);
}

void Engine::LookUpPrefixes() {
  std::map<std::string_view, std::vector<Sequence*>> waiting;  // by tenant
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->running || sequence->waits_for_prompt) continue;
    waiting[sequence->asked().tenant].push_back(sequence.get());
  }
  const auto outranks = [](const Sequence* a, const Sequence* b) {
    const int more = a->asked().priority - b->asked().priority;
    return more != 0 ? more > 0 : a->id < b->id;
  };
  size_t num_left = options_.scheduler.max_running, num_tenants_left = waiting.size();
  for (auto& [tenant, sequences] : waiting) {
    const size_t share = (num_left + num_tenants_left - 1) / num_tenants_left;
    --num_tenants_left;
    const auto end = sequences.begin() + std::min(share, sequences.size());
    num_left -= end - sequences.begin();
    std::partial_sort(sequences.begin(), end, sequences.end(), outranks);
    for (auto it = sequences.begin(); it != end; ++it) {
      Sequence& sequence = **it;
      if (sequence.found_version == pool_.version()) continue;
      sequence.found = pool_.Peek(sequence.asked().cache_salt, sequence.ids);
      sequence.found_version = pool_.version();
    }
  }
}

StepPlan Engine::Plan() {
  LookUpPrefixes();
  Snapshot snapshot;
  std::map<std::string_view, int> index;
  for (const auto& [name, tenant] : tenants_) {
    index[name] = static_cast<int>(snapshot.tenants.size());
    snapshot.tenants.push_back({.credit = tenant.credit});
  }
  snapshot.num_free_blocks = pool_.num_free();
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->waits_for_prompt) continue;
    const bool running = sequence->running;
    snapshot.sequences.push_back({
        .id = id,
        .tenant = index[sequence->asked().tenant],
        .priority = sequence->asked().priority,
        .running = running,
        .num_tokens = sequence->num_tokens(),
        .num_computed = running ? sequence->num_computed : sequence->found.num_tokens,
        .num_drafts = static_cast<int>(sequence->drafts.size()),
        .num_blocks = running ? static_cast<int>(sequence->blocks.ids.size())
                              : sequence->found.num_used_blocks,
        .num_own_blocks = pool_.NumOwn(sequence->blocks),
    });
  }
  StepPlan plan = PlanStep(snapshot, options_.scheduler);
  size_t i = 0;
  for (auto& [name, tenant] : tenants_) tenant.credit = plan.credits[i++];
  return plan;
}

void Engine::Preempt(Sequence& sequence) {
  pool_.Release(sequence.blocks);
  sequence.running = false;
  sequence.num_computed = 0;
  sequence.num_stored = 0;
  sequence.drafts.clear();
  ++counters_.preemptions;
}

void Engine::DropDoubtful() {
  if (step_->num_convictions() == num_convictions_) return;
  num_convictions_ = step_->num_convictions();
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->running) Preempt(*sequence);
  }
  pool_.ForgetAll();
  LogWarning(
      "the cache is computed again: a shard that answered wrongly may have had a part in it");
}

bool Engine::Admit(Sequence& sequence, int num_rows) {
  const int num_cached = pool_.Match(sequence.asked().cache_salt, sequence.ids, sequence.blocks);
  // The token before the first new one is computed once more if somebody needs its hidden state: the
  // MTP module, or the head if nothing else is left to compute.
  const bool again = options_.num_draft_tokens > 0 || num_cached == sequence.num_tokens();
  const int begin = num_cached > 0 && again ? num_cached - 1 : num_cached;
  num_rows = std::min(num_rows, sequence.num_tokens() - begin);
  if (!pool_.Reserve(begin + num_rows + options_.scheduler.lookahead_tokens, sequence.blocks)) {
    pool_.Release(sequence.blocks);
    sequence.found = {};  // to be believed no more, until the pool changes
    return false;
  }
  {
    std::lock_guard lock(mutex_);
    admission_.OnStarted(sequence.request->visit, absl::Now());
  }
  sequence.running = true;
  sequence.num_computed = begin;
  sequence.num_stored = num_cached;
  if (!sequence.request->cached_tokens.has_value()) {
    sequence.request->cached_tokens = std::min(num_cached, sequence.num_prompt());
    counters_.prefix_hit_tokens += num_cached;
    counters_.prefix_miss_tokens += sequence.num_tokens() - num_cached;
  }
  return true;
}

std::vector<Engine::Part> Engine::Apply(const StepPlan& plan) {
  for (const SequenceId id : plan.preempted) Preempt(*sequences_.at(id));
  std::vector<Part> parts;
  const auto add = [&](Sequence& sequence, int num_rows) {
    const int num_left =
        sequence.num_tokens() + static_cast<int>(sequence.drafts.size()) - sequence.num_computed;
    Part& part = parts.emplace_back();
    part.sequence = &sequence;
    part.num_rows = std::min(num_rows, num_left);
    part.first_position = sequence.num_computed;
  };
  // Those that run first: the plan has counted their blocks. What the cache gives a newcomer may be less
  // by now than when it was looked up; if it is too little, the newcomer waits on.
  for (const StepSlice& slice : plan.slices) {
    Sequence& sequence = *sequences_.at(slice.id);
    if (!sequence.running) continue;
    const int num_tokens =
        sequence.num_computed + slice.num_rows + options_.scheduler.lookahead_tokens;
    ORRERY_CHECK(pool_.Reserve(num_tokens, sequence.blocks))
        << slice.num_rows << " rows of sequence " << slice.id << " were planned, but only "
        << pool_.num_free() << " blocks are free";
    add(sequence, slice.num_rows);
  }
  for (const StepSlice& slice : plan.slices) {
    Sequence& sequence = *sequences_.at(slice.id);
    if (sequence.running) continue;
    int num_unused = slice.num_rows;  // rows of the plan, which its tenant has paid for
    if (Admit(sequence, slice.num_rows)) {
      add(sequence, slice.num_rows);
      num_unused -= parts.back().num_rows;
    }
    tenants_.at(sequence.asked().tenant).credit += num_unused;
  }
  return parts;
}

void Engine::EndChoice(Sequence& sequence, const AnswerEnd& end) {
  const OpenRequest& request = *sequence.request;
  Push(request, {ChoiceEnd{.choice = sequence.choice,
                           .end = end,
                           .num_tokens = sequence.answer.num_tokens(),
                           .cached_tokens = request.cached_tokens.value_or(0),
                           .drafted_tokens = sequence.drafted_tokens,
                           .accepted_tokens = sequence.accepted_tokens}});
  const std::shared_ptr<OpenRequest> keep = sequence.request;
  Remove(sequence);
  if (--keep->num_open_choices == 0) EndRequest(keep, absl::OkStatus());
}

void Engine::EndRequest(const std::shared_ptr<OpenRequest>& request, const absl::Status& status) {
  for (auto it = sequences_.begin(); it != sequences_.end();) {
    Sequence& sequence = *(it++)->second;
    if (sequence.request == request) Remove(sequence);
  }
  {
    std::lock_guard lock(mutex_);
    admission_.OnEnded(request->visit, /*is_served=*/status.ok(), absl::Now());
    request->outbox->CountIn(request->visit.is_replay ? unread_replay_bytes_ : unread_bytes_,
                             request->visit.num_bytes);
    const auto last = by_id_.find(request->asked.request_id);
    if (last != by_id_.end() && last->second == request) by_id_.erase(last);
  }
  ended_.emplace_back(request, status);
}

void Engine::Remove(Sequence& sequence) {
  pool_.Release(sequence.blocks);
  const auto tenant = tenants_.find(sequence.asked().tenant);
  if (--tenant->second.num_sequences == 0 && tenants_.size() > kMaxTenants) {
    tenants_.erase(tenant);
  }
  sequences_.erase(sequence.id);
}

void Engine::Push(const OpenRequest& request, std::vector<OutputEvent> events) {
  request.outbox->Push(std::move(events));
  if (request.outbox->has_listener()) with_news_.push_back(request.outbox);
}

void Engine::TellNews() { courier_.Carry(std::exchange(with_news_, {})); }

void Engine::Publish() {
  EngineLoad load = counters_;
  int64_t num_owned = 0;
  for (const auto& [id, sequence] : sequences_) {
    ++(sequence->running ? load.num_running : load.num_waiting);
    num_owned += static_cast<int64_t>(sequence->blocks.ids.size());
  }
  load.num_kv_blocks = pool_.num_blocks();
  load.num_free_kv_blocks = pool_.num_free();
  load.num_cached_kv_blocks = pool_.num_cached();
  load.num_leaked_kv_blocks = static_cast<int>(pool_.num_references() - num_owned);
  load.kv_evictions = pool_.num_evictions();
  {
    std::lock_guard lock(mutex_);
    load_ = load;
  }
  // Only now, so that whoever sees the end sees the blocks given back too.
  for (const auto& [request, status] : std::exchange(ended_, {})) {
    request->outbox->Finish(status);
    if (request->outbox->has_listener()) with_news_.push_back(request->outbox);
  }
  TellNews();
}

}  // namespace orrery
