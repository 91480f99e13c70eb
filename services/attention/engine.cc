#include "services/attention/engine.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<Engine>> Engine::Start(const StepParts& parts,
                                                      const EngineOptions& options) {
  if (KvCache::BlocksFor(options.max_context_tokens) > options.num_kv_blocks) {
    return absl::InvalidArgumentError(
        absl::StrCat("a KV cache of ", options.num_kv_blocks, " blocks (",
                     options.num_kv_blocks * kKvBlockTokens,
                     " tokens) cannot hold max_context_tokens ", options.max_context_tokens));
  }
  const Model& model = *parts.model;
  std::unique_ptr<Engine> engine(new Engine(options, model.config));
  ASSIGN_OR_RETURN(engine->step_, Step::Create(parts, {.max_rows = options.scheduler.max_step_rows,
                                                       .max_logit_rows = 1}));
  {
    absl::MutexLock lock(&engine->mutex_);
    ASSIGN_OR_RETURN(engine->cache_, KvCache::Create(model.config, model.numerics.kv_format(),
                                                     options.num_kv_blocks, parts.device));
  }
  engine->loop_ = std::thread([raw = engine.get()] { raw->Loop(); });
  return engine;
}

Engine::~Engine() { Stop(); }

void Engine::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  give_up_ = true;
  if (loop_.joinable()) loop_.join();
}

absl::Status Engine::Validate(const GenerationRequest& request) const {
  if (request.prompt_ids.empty()) return absl::InvalidArgumentError("the prompt has no tokens");
  for (size_t i = 0; i < request.prompt_ids.size(); ++i) {
    const int32_t id = request.prompt_ids[i];
    if (id < 0 || id >= config_.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("prompt id ", id, " at index ", i,
                                                     " is outside the vocabulary 0..",
                                                     config_.vocab_size - 1));
    }
  }
  const int64_t prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  if (request.max_new_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_new_tokens is ", request.max_new_tokens, ", it must be at least 1"));
  }
  if (prompt_tokens + request.max_new_tokens > options_.max_context_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a prompt of ", prompt_tokens, " tokens and max_new_tokens ", request.max_new_tokens,
        " exceed the context limit of ", options_.max_context_tokens, " tokens"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Outbox>> Engine::Submit(GenerationRequest request) {
  RETURN_IF_ERROR(Validate(request));
  absl::MutexLock lock(&mutex_);
  if (stopping_) return absl::UnavailableError("this rank is stopping");
  const SequenceId id = next_id_++;
  RETURN_IF_ERROR(scheduler_.Add(id, static_cast<int>(request.prompt_ids.size())));
  Sequence sequence;
  sequence.ids = request.prompt_ids;
  sequence.request = std::move(request);
  sequence.outbox = std::make_shared<Outbox>();
  tokens_in_ += static_cast<int64_t>(sequence.ids.size());
  std::shared_ptr<Outbox> outbox = sequence.outbox;
  sequences_.emplace(id, std::move(sequence));
  return outbox;
}

EngineLoad Engine::load() const {
  absl::MutexLock lock(&mutex_);
  return {.num_running = scheduler_.num_running(),
          .num_waiting = scheduler_.num_waiting(),
          .num_kv_blocks = cache_.num_blocks(),
          .num_free_kv_blocks = cache_.num_free_blocks(),
          .tokens_in = tokens_in_,
          .tokens_out = tokens_out_};
}

void Engine::Loop() {
  Scheduler::Decision decision;
  Sequence* sequence = nullptr;
  while (Next(decision, sequence)) RunStep(decision, *sequence);
}

bool Engine::Next(Scheduler::Decision& decision, Sequence*& sequence) {
  absl::MutexLock lock(&mutex_);
  while (true) {
    const auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopping_ || scheduler_.num_running() > 0;
    };
    mutex_.Await(absl::Condition(&has_work));
    if (stopping_) {
      while (!sequences_.empty()) {
        End(sequences_.begin()->first, absl::UnavailableError("this rank is stopping"));
      }
      return false;
    }
    DropCancelled();
    const std::optional<Scheduler::Decision> next = scheduler_.Next();
    if (!next.has_value()) continue;
    decision = *next;
    sequence = &sequences_.at(decision.id);
    // Cannot fail: the cache holds max_context_tokens, and one sequence runs at a time.
    ORRERY_CHECK(cache_.Reserve(decision.first_position + decision.num_rows, sequence->block_ids))
        << cache_.num_free_blocks() << " free blocks";
    return true;
  }
}

absl::Status Engine::DropReason(const Sequence& sequence) {
  if (sequence.outbox->cancelled()) return absl::CancelledError("the client has gone away");
  if (absl::Now() >= sequence.request.deadline) {
    return absl::DeadlineExceededError("the request's deadline passed");
  }
  return absl::OkStatus();
}

void Engine::DropCancelled() {
  std::vector<std::pair<SequenceId, absl::Status>> dropped;
  for (const auto& [id, sequence] : sequences_) {
    absl::Status reason = DropReason(sequence);
    if (!reason.ok()) dropped.emplace_back(id, std::move(reason));
  }
  for (auto& [id, status] : dropped) End(id, std::move(status));
}

void Engine::RunStep(const Scheduler::Decision& decision, Sequence& sequence) {
  const auto begin = sequence.ids.begin() + decision.first_position;
  Batch batch;
  batch.ids.assign(begin, begin + decision.num_rows);
  batch.spans.push_back({.row_begin = 0,
                         .num_rows = decision.num_rows,
                         .first_position = decision.first_position,
                         .block_ids = sequence.block_ids});
  if (decision.reaches_end) batch.logit_rows.push_back(decision.num_rows - 1);
  batch.deadline = std::min(absl::Now() + options_.expert_timeout, sequence.request.deadline);
  batch.abandoned = [this, &sequence] { return give_up_ || sequence.outbox->cancelled(); };

  // The lock is free during the step: the cache's contents and this sequence belong to the loop.
  const KvCache* cache = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    cache = &cache_;
  }
  const absl::Status status = step_->Run(batch, *cache, /*probe=*/nullptr);
  if (!status.ok()) {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return;  // Next ends all that is left
    const absl::Status reason = DropReason(sequence);
    End(decision.id, reason.ok() ? status : reason);
    return;
  }
  Commit(decision, sequence);
}

void Engine::Commit(const Scheduler::Decision& decision, Sequence& sequence) {
  OutputToken output;
  std::optional<EndReason> end;
  if (decision.reaches_end) {
    const absl::Span<const float> logprobs = step_->logprobs(0);
    const int position = decision.first_position + decision.num_rows;
    output.token = SampleToken(logprobs, sequence.request.sampling, position);
    output.top = TopLogprobs(logprobs, sequence.request.num_top_logprobs);
    sequence.ids.push_back(output.token.id);
    ++sequence.num_generated;
    if (absl::c_linear_search(sequence.request.stop_ids, output.token.id)) {
      end = EndReason::kStop;
    } else if (sequence.num_generated == sequence.request.max_new_tokens) {
      end = EndReason::kLength;
    }
    sequence.outbox->Push(std::move(output));
  }
  absl::MutexLock lock(&mutex_);
  tokens_out_ += decision.reaches_end ? 1 : 0;
  scheduler_.Committed(decision.id, decision.num_rows, decision.reaches_end ? 1 : 0);
  if (end.has_value()) End(decision.id, *end);
}

void Engine::End(SequenceId id, absl::StatusOr<EndReason> end) {
  const auto found = sequences_.find(id);
  found->second.outbox->Finish(std::move(end));
  cache_.Release(found->second.block_ids);
  scheduler_.Remove(id);
  sequences_.erase(found);
}

}  // namespace orrery
