#include "services/attention/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/rng.h"

namespace orrery {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// An id that may be drawn. `score` is the log-probability after penalties and temperature, up to a
// constant; `weight` is set while top_p looks at it.
struct Candidate {
  double score = 0.0;
  int32_t id = 0;
  uint64_t weight = 0;
};

bool MoreLikely(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

// top_p adds probabilities as integers, so that the sum is the same in whatever order selection
// left them. A unit is 2^-39 of the most likely id; kMaxVocabSize ids of the largest weight make
// 2^63.
constexpr double kLargestWeight = 0x1p39;
constexpr size_t kMaxVocabSize = size_t{1} << 24;
// An id this far below the most likely one counts as nothing for top_p: exp(-27) is 1.03 units.
constexpr double kNegligible = -27.0;

// exp(x) for kNegligible <= x <= 0 from basic operations only; relative error below 1e-12.
double PortableExp(double x) {
  // x = n log 2 + r, |r| <= 0.3466: the first term left out, r^12/12!, is below 1e-14.
  constexpr std::array<double, 12> kInverseFactorials = [] {
    std::array<double, 12> inverse = {1.0};
    for (int k = 1; k < 12; ++k) inverse[k] = inverse[k - 1] / k;
    return inverse;
  }();
  const int n = static_cast<int>(x * 1.4426950408889634 - 0.5);  // to the nearest
  const double r = x - n * 0.6931471805599453;
  double sum = 0.0;
  for (int k = 11; k >= 0; --k) sum = sum * r + kInverseFactorials[k];
  return sum * std::bit_cast<double>(static_cast<uint64_t>(1023 + n) << 52);
}

// The last is then the least likely.
void KeepTopK(size_t top_k, std::vector<Candidate>& candidates) {
  if (candidates.size() <= top_k) return;
  std::nth_element(candidates.begin(), candidates.begin() + (top_k - 1), candidates.end(),
                   MoreLikely);
  candidates.resize(top_k);
}

// The shortest list of most likely ids that has top_p of the probability (Holtzman et al., "The
// curious case of neural text degeneration", 2019). Halving the part where the list may end, with
// a selection each time, costs O(n); a sort would cost O(n log n).
void KeepTopP(double top_p, double max_score, std::vector<Candidate>& candidates) {
  const auto add = [](uint64_t sum, const Candidate& c) { return sum + c.weight; };
  for (Candidate& c : candidates) {
    c.weight = static_cast<uint64_t>(PortableExp(c.score - max_score) * kLargestWeight);
  }
  const uint64_t total = std::accumulate(candidates.begin(), candidates.end(), uint64_t{0}, add);
  // What the ids from `low` on must bring; the list ends in [low, high).
  uint64_t needed =
      std::max(uint64_t{1}, static_cast<uint64_t>(top_p * static_cast<double>(total)));
  auto low = candidates.begin(), high = candidates.end();
  while (high - low > 1) {
    const auto middle = low + (high - low) / 2;
    std::nth_element(low, middle, high, MoreLikely);
    const uint64_t weight = std::accumulate(low, middle, uint64_t{0}, add);
    if (weight >= needed) {
      high = middle;
    } else {
      needed -= weight;
      low = middle;
    }
  }
  candidates.erase(high, candidates.end());
}

// The ids that top_k, top_p and min_p leave, in no order.
template <typename Score>
std::vector<Candidate> Filter(absl::Span<const Score> scores, const SamplingParams& params) {
  const double temperature = params.temperature;
  double max_score = -kInfinity;
  for (const double score : scores) max_score = score > max_score ? score : max_score;
  max_score /= temperature;
  // min_p: Nguyen et al., "Turning up the heat: min-p sampling", 2024.
  const double log_min_p = params.min_p > 0.0f ? PortableLog(params.min_p) : -kInfinity;
  // Only what a later filter would drop anyway is not collected. top_p must see what min_p drops.
  const double floor = params.top_p < 1.0f ? kNegligible : log_min_p;
  const size_t top_k = params.top_k > 0 ? params.top_k : scores.size();
  const size_t full = 2 * top_k + 1024;
  double beaten = -kInfinity;  // by top_k ids so far
  std::vector<Candidate> candidates;
  for (size_t id = 0; id < scores.size(); ++id) {
    const double score = scores[id] / temperature;
    if (!(score > beaten && score - max_score >= floor)) continue;
    candidates.push_back({.score = score, .id = static_cast<int32_t>(id)});
    if (candidates.size() < full) continue;
    KeepTopK(top_k, candidates);
    beaten = candidates.back().score;
  }
  KeepTopK(top_k, candidates);
  if (params.top_p < 1.0f) KeepTopP(params.top_p, max_score, candidates);
  std::erase_if(candidates, [&](const Candidate& c) { return c.score - max_score < log_min_p; });
  return candidates;
}

// No less than GumbelDraw(key) where u = UniformDraw(key), without a logarithm: with 1 - u >= 2^e,
// -log(-log u) <= -log(1 - u) <= -e log 2. 0.6932 lies above log 2 = 0.69315 by more than
// GumbelDraw's rounding.
constexpr double kAboveLog2 = 0.6932;
double NoiseBound(double u) {
  const int exponent = static_cast<int>(std::bit_cast<uint64_t>(1.0 - u) >> 52) - 1023;
  return -exponent * kAboveLog2;
}
// Of any u: it has 53 bits.
constexpr double kMaxNoise = 53 * kAboveLog2;

// The id with the largest score + noise among those offered, in any order.
class GumbelMax {
 public:
  explicit GumbelMax(DrawKey key) : key_(key) {}

  void Offer(int32_t id, double score) {
    // A vocabulary has 100,000 ids, and all but a few cannot reach `total_`. The uniform draw says
    // so without the two logarithms, and sometimes the score alone. Additions round monotonically,
    // so what is skipped here could not have won.
    if (!(score + kMaxNoise >= total_) || score == -kInfinity) return;
    key_.draw = static_cast<uint32_t>(id);
    if (score + NoiseBound(UniformDraw(key_)) < total_) return;
    const double total = score + GumbelDraw(key_);
    if (total > total_ || (total == total_ && id < id_)) {
      total_ = total;
      id_ = id;
    }
  }
  int32_t id() const { return id_; }  // -1: none was offered

 private:
  DrawKey key_;
  double total_ = -kInfinity;
  int32_t id_ = -1;
};

// Ties to the lower id; -1 if no score is above minus infinity.
template <typename Score>
int32_t MostLikely(absl::Span<const Score> scores) {
  int32_t best = -1;
  double best_score = -kInfinity;
  for (size_t id = 0; id < scores.size(); ++id) {
    if (scores[id] > best_score) {
      best = static_cast<int32_t>(id);
      best_score = scores[id];
    }
  }
  return best;
}

absl::Status OutOfRange(const std::string& field, float value, const char* limit) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", it must be ", limit));
}

// Refuses what is not a number, too.
bool IsWithin(float value, float low, float high) { return value >= low && value <= high; }

absl::Status CheckLogitBias(const SamplingParams& params, int vocab_size) {
  const auto& biases = params.logit_bias;
  if (biases.size() > kMaxLogitBiasIds) {
    return absl::InvalidArgumentError(
        absl::StrCat("logit_bias has ", biases.size(), " ids, the limit is ", kMaxLogitBiasIds));
  }
  for (size_t i = 0; i < biases.size(); ++i) {
    const auto [id, bias] = biases[i];
    if (id < 0 || id >= vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("logit_bias: id ", id, " is outside the vocabulary 0..", vocab_size - 1));
    }
    if (i > 0 && biases[i - 1].first >= id) {
      return absl::InvalidArgumentError(absl::StrCat("logit_bias: id ", id, " stands behind id ",
                                                     biases[i - 1].first,
                                                     ", ids must ascend, each once"));
    }
    if (!IsWithin(bias, kBanningBias, 100.0f)) {
      return OutOfRange(absl::StrCat("logit_bias of id ", id), bias, "-100 to 100");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSamplingParams(const SamplingParams& params, int vocab_size) {
  if (!IsWithin(params.temperature, 0.0f, 2.0f)) {
    return OutOfRange("temperature", params.temperature, "0 to 2");
  }
  if (params.top_k < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_k is ", params.top_k, ", it must be at least 0"));
  }
  if (!IsWithin(params.top_p, 0.0f, 1.0f) || params.top_p == 0.0f) {
    return OutOfRange("top_p", params.top_p, "above 0 and at most 1");
  }
  if (!IsWithin(params.min_p, 0.0f, 1.0f)) return OutOfRange("min_p", params.min_p, "0 to 1");
  if (!IsWithin(params.repetition_penalty, 0.0f, 10.0f) || params.repetition_penalty == 0.0f) {
    return OutOfRange("repetition_penalty", params.repetition_penalty, "above 0 and at most 10");
  }
  if (!IsWithin(params.presence_penalty, -2.0f, 2.0f)) {
    return OutOfRange("presence_penalty", params.presence_penalty, "-2 to 2");
  }
  if (!IsWithin(params.frequency_penalty, -2.0f, 2.0f)) {
    return OutOfRange("frequency_penalty", params.frequency_penalty, "-2 to 2");
  }
  return CheckLogitBias(params, vocab_size);
}

Sampler::Sampler(const SamplingParams& params, uint32_t choice, int num_prompt_tokens,
                 const PromptIds* prompt)
    : params_(params),
      choice_(choice),
      num_prompt_tokens_(num_prompt_tokens),
      prompt_(params.repetition_penalty == 1.0f ? nullptr : prompt),
      has_penalties_(params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
                     params.frequency_penalty != 0.0f) {}

void Sampler::Append(int32_t id) {
  answer_ids_.push_back(id);
  if (has_penalties_) ++num_in_answer_[id];
}

void Sampler::RemoveLast() {
  ORRERY_CHECK(!answer_ids_.empty()) << "the answer has no token to take back";
  if (has_penalties_) {
    const auto seen = num_in_answer_.find(answer_ids_.back());
    if (--seen->second == 0) num_in_answer_.erase(seen);
  }
  answer_ids_.pop_back();
}

std::vector<double> Sampler::Scores(const LogprobRow& row, absl::Span<const int32_t> banned) const {
  std::vector<double> scores(row.logprobs.begin(), row.logprobs.end());
  const auto is_known = [&](int32_t id) { return id >= 0 && id < static_cast<int>(scores.size()); };
  // Repetition: Keskar et al., "CTRL", 2019, section 4.1, with the sign of the logit as the Hugging
  // Face library takes it. Presence and frequency: the formula of the OpenAI API reference.
  const double repetition = params_.repetition_penalty, normalizer = row.log_normalizer;
  const auto penalize_repetition = [&](int32_t id) {
    if (!is_known(id)) return;
    const double logit = scores[id] + normalizer;
    scores[id] = (logit > 0.0 ? logit / repetition : logit * repetition) - normalizer;
  };
  if (prompt_ != nullptr) {
    for (const int32_t id : *prompt_) penalize_repetition(id);
  }
  for (const auto& [id, count] : num_in_answer_) {
    if (!is_known(id)) continue;
    if (repetition != 1.0 && !(prompt_ && prompt_->contains(id))) penalize_repetition(id);
    scores[id] -= params_.presence_penalty;
    scores[id] -= static_cast<double>(params_.frequency_penalty) * count;
  }
  for (const auto& [id, bias] : params_.logit_bias) {
    if (is_known(id)) scores[id] = bias <= kBanningBias ? -kInfinity : scores[id] + bias;
  }
  for (const int32_t id : banned) {
    if (is_known(id)) scores[id] = -kInfinity;
  }
  return scores;
}

template <typename Score>
int32_t Sampler::Choose(absl::Span<const Score> scores) const {
  if (params_.temperature == 0.0f) return MostLikely(scores);
  GumbelMax draw(
      {.seed = params_.seed, .choice = choice_, .position = static_cast<uint32_t>(position())});
  if (params_.top_k > 0 || params_.top_p < 1.0f || params_.min_p > 0.0f) {
    for (const Candidate& c : Filter(scores, params_)) draw.Offer(c.id, c.score);
  } else {
    const double temperature = params_.temperature;
    for (size_t id = 0; id < scores.size(); ++id) {
      draw.Offer(static_cast<int32_t>(id), scores[id] / temperature);
    }
  }
  return draw.id();
}

IdAndLogprob Sampler::Sample(const LogprobRow& row, absl::Span<const int32_t> banned) const {
  const absl::Span<const float> logprobs = row.logprobs;
  ORRERY_CHECK(!logprobs.empty() && logprobs.size() <= kMaxVocabSize) << logprobs.size() << " ids";
  const bool is_plain =
      prompt_ == nullptr && num_in_answer_.empty() && params_.logit_bias.empty() && banned.empty();
  int32_t id = is_plain ? Choose(logprobs) : Choose(absl::Span<const double>(Scores(row, banned)));
  if (id < 0) id = std::max(MostLikely(logprobs), 0);
  return {.id = id, .logprob = logprobs[id]};
}

std::vector<IdAndLogprob> TopLogprobs(absl::Span<const float> logprobs, int count) {
  const size_t num_kept = std::min(logprobs.size(), static_cast<size_t>(std::max(count, 0)));
  std::vector<IdAndLogprob> top;
  top.reserve(num_kept + 1);
  for (size_t id = 0; id < logprobs.size() && num_kept > 0; ++id) {
    const float logprob = logprobs[id];
    if (top.size() == num_kept && !(logprob > top.back().logprob)) continue;
    // Behind its equals: they have lower ids.
    const auto place = std::find_if(
        top.begin(), top.end(), [&](const IdAndLogprob& other) { return logprob > other.logprob; });
    top.insert(place, {static_cast<int32_t>(id), logprob});
    if (top.size() > num_kept) top.pop_back();
  }
  return top;
}

}  // namespace orrery
