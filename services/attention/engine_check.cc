// What an engine refuses: options that contradict each other, and requests that it cannot serve.
#include "absl/strings/str_cat.h"
#include "services/attention/engine.h"

namespace orrery {
namespace {

// See proto/orrery.proto.
constexpr int kMaxChoices = 16;
constexpr int kMaxTopLogprobs = 20;

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
  for (size_t i = 0; i < request.prompt_ids.size(); ++i) {
    const int32_t id = request.prompt_ids[i];
    if (id < 0 || id >= config_.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("prompt id ", id, " at index ", i,
                                                     " is outside the vocabulary 0..",
                                                     config_.vocab_size - 1));
    }
  }
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
  return absl::OkStatus();
}

}  // namespace orrery
