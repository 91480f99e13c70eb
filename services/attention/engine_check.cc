// What an engine refuses: options that contradict each other, and requests that it cannot serve.
#include <string>

#include "absl/strings/str_cat.h"
#include "services/attention/engine.h"

namespace orrery {
namespace {

// See proto/orrery.proto.
constexpr int kMaxChoices = 16;
constexpr int kMaxTopLogprobs = 20;

absl::Status CheckIds(const std::string& what, absl::Span<const int32_t> ids, int vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        what, " id ", ids[i], " at index ", i, " is outside the vocabulary 0..", vocab_size - 1));
  }
  return absl::OkStatus();
}

// `request` is valid but for this.
absl::Status CheckSoFar(const GenerationRequest& request, int vocab_size,
                        const Tokenizer* tokenizer) {
  if (!request.is_replay()) return absl::OkStatus();
  if (static_cast<int>(request.so_far.size()) != request.num_choices) {
    return absl::InvalidArgumentError(absl::StrCat("so_far has ", request.so_far.size(),
                                                   " entries, must have one for each of the ",
                                                   request.num_choices, " choices"));
  }
  bool has_open = false;
  for (int choice = 0; choice < request.num_choices; ++choice) {
    const ChoiceSoFar& so_far = request.so_far[choice];
    if (so_far.has_ended) continue;
    has_open = true;
    RETURN_IF_ERROR(
        CheckIds(absl::StrCat("so_far of choice ", choice, ":"), so_far.ids, vocab_size));
    AnswerStream answer(&request.stop, tokenizer);
    RETURN_IF_ERROR(Replay(so_far.ids, choice, answer).status());
  }
  if (has_open) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("so_far: all ", request.num_choices, " choices have ended"));
}

}  // namespace

absl::Status Engine::CheckOptions(const Model& model, const EngineOptions& options) {
  const int context_blocks =
      KvCache::BlocksFor(options.max_context_tokens + options.num_draft_tokens);
  if (context_blocks > options.num_kv_blocks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a KV cache of ", options.num_kv_blocks, " blocks (",
        options.num_kv_blocks * kKvBlockTokens, " tokens) cannot hold max_context_tokens ",
        options.max_context_tokens, ", which needs ", context_blocks, " blocks"));
  }
  const SchedulerOptions& scheduler = options.scheduler;
  const int answer_rows = scheduler.max_running * (1 + options.num_draft_tokens);
  if (scheduler.max_running < 1 || answer_rows > scheduler.max_step_rows) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_step_rows is ", scheduler.max_step_rows, ", but ", scheduler.max_running,
        " running sequences with ", options.num_draft_tokens, " drafts each need ", answer_rows));
  }
  if (scheduler.max_prefill_rows < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_prefill_rows is ", scheduler.max_prefill_rows, ", must be at least 1"));
  }
  if (options.num_draft_tokens > 0 && !model.mtp.has_value()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "num_draft_tokens is ", options.num_draft_tokens, ", but no MTP module was loaded"));
  }
  return absl::OkStatus();
}

absl::Status Engine::Validate(const GenerationRequest& request) const {
  if (request.prompt_ids.empty()) return absl::InvalidArgumentError("the prompt has no tokens");
  RETURN_IF_ERROR(CheckIds("prompt", request.prompt_ids, config_.vocab_size));
  RETURN_IF_ERROR(CheckStopRules(request.stop, config_.vocab_size, options_.tokenizer));
  RETURN_IF_ERROR(CheckSamplingParams(request.sampling, config_.vocab_size));
  const int64_t prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  if (prompt_tokens + request.stop.max_new_tokens > options_.max_context_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a prompt of ", prompt_tokens, " tokens and max_new_tokens ", request.stop.max_new_tokens,
        " exceed the context limit of ", options_.max_context_tokens, " tokens"));
  }
  if (request.num_choices < 1 || request.num_choices > kMaxChoices) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_choices is ", request.num_choices, ", must be 1 to ", kMaxChoices));
  }
  if (request.num_top_logprobs < 0 || request.num_top_logprobs > kMaxTopLogprobs) {
    return absl::InvalidArgumentError(absl::StrCat("num_top_logprobs is ", request.num_top_logprobs,
                                                   ", must be 0 to ", kMaxTopLogprobs));
  }
  return CheckSoFar(request, config_.vocab_size, options_.tokenizer);
}

}  // namespace orrery
