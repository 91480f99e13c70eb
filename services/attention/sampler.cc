#include "services/attention/sampler.h"

#include <algorithm>

#include "base/rng.h"

namespace orrery {

IdAndLogprob SampleToken(absl::Span<const float> logprobs, const SamplingParams& params,
                         int position) {
  const int num_ids = static_cast<int>(logprobs.size());
  int best = 0;
  double best_score = 0.0;
  for (int id = 0; id < num_ids; ++id) {
    double score = logprobs[id];
    if (params.temperature > 0.0f) {
      score = score / params.temperature + GumbelDraw({.seed = params.seed,
                                                       .choice = params.choice,
                                                       .position = static_cast<uint32_t>(position),
                                                       .draw = static_cast<uint32_t>(id)});
    }
    if (id == 0 || score > best_score) {
      best = id;
      best_score = score;
    }
  }
  return {.id = best, .logprob = logprobs[best]};
}

std::vector<IdAndLogprob> TopLogprobs(absl::Span<const float> logprobs, int count) {
  std::vector<IdAndLogprob> all(logprobs.size());
  for (size_t id = 0; id < logprobs.size(); ++id)
    all[id] = {static_cast<int32_t>(id), logprobs[id]};
  const size_t kept = std::min(all.size(), static_cast<size_t>(count));
  std::partial_sort(all.begin(), all.begin() + kept, all.end(),
                    [](const IdAndLogprob& a, const IdAndLogprob& b) {
                      return a.logprob != b.logprob ? a.logprob > b.logprob : a.id < b.id;
                    });
  all.resize(kept);
  return all;
}

}  // namespace orrery
