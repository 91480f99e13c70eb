// From log-probabilities to one token id: the whole of sampling, and nothing that depends on time.
//
//   const PromptIds prompt(prompt_ids.begin(), prompt_ids.end());   // for repetition_penalty only
//   Sampler sampler(params, /*choice=*/0, num_prompt_tokens, &prompt);
//   IdAndLogprob token = sampler.Sample(row, /*banned=*/{});        // of the next position
//   sampler.Append(token.id);                                       // once the step commits
//
// In this order:
//   1. Repetition, presence and frequency penalties, then logit_bias, on the logits, each of which is
//      a log-probability and the row's log_normalizer. repetition_penalty divides a positive logit
//      and multiplies a negative one. The others only add, so they need no normalizer.
//   2. Banned ids leave: those of `banned`, and those with a bias of kBanningBias.
//   3. Temperature. 0 takes the most likely id, and nothing below matters.
//   4. top_k, then top_p over the probabilities of what top_k left, then min_p. The most likely id
//      always stays.
//   5. A draw.
// Ties go to the lower id everywhere.
//
// The draw is Gumbel-max: argmax of score / temperature + noise, where the noise of an id is keyed
// by (seed, choice, position, id) and by nothing else. So it is the same in every batch, on every
// rank, after every failover, and a draft of the MTP module that uses the same noise is often the
// same token. All arithmetic is f64 from basic operations, and probabilities are added as integers:
// no math library, no compiler and no order of additions changes a token.
//
// The log-probability that is reported is the model's own, before all of the above.
//
// State is the answer, which penalties count; it changes only by Append and RemoveLast. Threads: the
// loop's; Sample is const, so rows of several samplers may be sampled side by side.
#ifndef ORRERY_SERVICES_ATTENTION_SAMPLER_H_
#define ORRERY_SERVICES_ATTENTION_SAMPLER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "base/status.h"

namespace orrery {

inline constexpr int kMaxLogitBiasIds = 1024;
inline constexpr float kBanningBias = -100.0f;

// The neutral value of each stands beside it; see proto/orrery.proto for ranges.
struct SamplingParams {
  float temperature = 0.0f;
  uint64_t seed = 0;
  int top_k = 0;  // 0: all
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::vector<std::pair<int32_t, float>> logit_bias = {};  // ascending ids, each once
};

// INVALID_ARGUMENT with field, value and limit.
absl::Status CheckSamplingParams(const SamplingParams& params, int vocab_size);

struct IdAndLogprob {
  int32_t id = 0;
  float logprob = 0.0f;
  bool operator==(const IdAndLogprob&) const = default;
};

// What the head says of one position.
struct LogprobRow {
  absl::Span<const float> logprobs;  // [vocab_size], not empty
  float log_normalizer = 0.0f;       // logit = logprob + log_normalizer
};

// The distinct ids of a prompt: one set for all choices.
using PromptIds = absl::flat_hash_set<int32_t>;

class Sampler {
 public:
  // `params` passed CheckSamplingParams. `prompt` outlives the sampler; null if there is no
  // repetition_penalty, which alone counts the prompt.
  Sampler(const SamplingParams& params, uint32_t choice, int num_prompt_tokens,
          const PromptIds* prompt);

  // The token behind the ids so far. `banned` ids, in any order, are never chosen while another is
  // left. If none is left, it is the model's most likely id.
  IdAndLogprob Sample(const LogprobRow& row, absl::Span<const int32_t> banned) const;

  // The answer grows by one token, or shrinks by its last: drafts are appended, and taken back.
  void Append(int32_t id);
  void RemoveLast();

  // Of the token that Sample gives next: prompt tokens and answer tokens so far.
  int position() const { return num_prompt_tokens_ + static_cast<int>(answer_ids_.size()); }

 private:
  // Steps 1 and 2; a banned id has minus infinity. [vocab_size] log-probabilities up to a constant.
  std::vector<double> Scores(const LogprobRow& row, absl::Span<const int32_t> banned) const;
  // Steps 3 to 5; -1 if every id is banned.
  template <typename Score>
  int32_t Choose(absl::Span<const Score> scores) const;

  const SamplingParams params_;
  const uint32_t choice_;
  const int num_prompt_tokens_;
  const PromptIds* const prompt_;  // null without a repetition penalty
  const bool has_penalties_;
  std::vector<int32_t> answer_ids_;
  absl::flat_hash_map<int32_t, int> num_in_answer_;  // by id; empty without penalties
};

// The `count` most likely ids, most likely first, ties to the lower id.
std::vector<IdAndLogprob> TopLogprobs(absl::Span<const float> logprobs, int count);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SAMPLER_H_
