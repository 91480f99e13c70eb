// The requests of an invariance check, the same for the same seed: every setting answers all of
// them.
//
//   ASSIGN_OR_RETURN(Workload workload, MakeWorkload(model_dir, config, {.num_prompts = 200}));
//   GenerationRequest request = workload.Request(17, /*seeded=*/true, /*num_choices=*/3);
//
// Prompts are random ids with lengths around the borders of cache blocks and chunks, a quarter of
// them with the beginning of another; half come from the model's eval.jsonl, if there is one.
// Requests differ in what may be asked for: stop rules, penalties, top log-probabilities, tenants,
// priorities. Works without a tokenizer.
#ifndef ORRERY_TOOLS_CHECK_INVARIANCE_WORKLOAD_H_
#define ORRERY_TOOLS_CHECK_INVARIANCE_WORKLOAD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "checkpoint/tokenizer.h"
#include "services/attention/engine.h"

namespace orrery {

// Fewer leave nothing to draft, and nothing to compare.
inline constexpr int kMinAnswerTokens = 4;
// The longest answer where nothing is asked for; shorter if the context is.
inline constexpr int kDefaultAnswerTokens = 32;
// The longest random prompt: 7 cache blocks with its answer. Twice as long would cost twice the
// time, and show nothing new.
inline constexpr int kLongestPrompt = 400;

struct WorkloadOptions {
  int num_prompts = 200;
  int max_new_tokens = 0;  // 0: kDefaultAnswerTokens
  uint64_t seed = 1;
};

struct WorkloadRequest {
  GenerationRequest greedy;  // num_choices 1
  SamplingParams seeded;     // replaces its sampling
  bool is_from_eval = false;
};

struct Workload {
  std::optional<Tokenizer> tokenizer;  // of the model, if it has one
  std::vector<WorkloadRequest> requests;
  // One that needs the whole of a cache for max_context_tokens: with a higher priority than a
  // running sequence of its tenant it takes that one's place.
  GenerationRequest intruder;
  int max_context_tokens = 0;  // of the longest: prompt and answer
  int longest_prompt = 0;
  int64_t num_prompt_tokens = 0;
  int num_from_eval = 0;

  GenerationRequest Request(int index, bool seeded, int num_choices) const;
};

// INVALID_ARGUMENT for less than one prompt, for answers below kMinAnswerTokens or above what the
// context leaves; errors of tokenizer.json, of the chat template and of eval.jsonl, if they exist
// and cannot be read.
absl::StatusOr<Workload> MakeWorkload(const std::string& model_dir, const ModelConfig& config,
                                      const WorkloadOptions& options);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_INVARIANCE_WORKLOAD_H_
