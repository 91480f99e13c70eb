// From log-probabilities to one token id.
//
// Greedy at temperature 0: the largest, ties to the lower id. Otherwise the largest of logprob /
// temperature + Gumbel noise keyed by (seed, choice, position, id): distributed like the tempered
// probabilities, and the same draw in every batch, on every rank, after every failover.
#ifndef ORRERY_SERVICES_ATTENTION_SAMPLER_H_
#define ORRERY_SERVICES_ATTENTION_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace orrery {

struct SamplingParams {
  float temperature = 0.0f;
  uint64_t seed = 0;
  uint32_t choice = 0;
};

struct IdAndLogprob {
  int32_t id = 0;
  float logprob = 0.0f;
  bool operator==(const IdAndLogprob&) const = default;
};

// logprobs [vocab_size]; position of the token to be drawn in its sequence.
IdAndLogprob SampleToken(absl::Span<const float> logprobs, const SamplingParams& params,
                         int position);

// The `count` most likely ids, most likely first, ties to the lower id.
std::vector<IdAndLogprob> TopLogprobs(absl::Span<const float> logprobs, int count);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SAMPLER_H_
