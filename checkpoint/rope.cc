// Rotary frequencies: rope_theta and rope_scaling of config.json, and what they mean.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "checkpoint/config_fields.h"

namespace orrery {
namespace {

using Real = long double;
constexpr Real kTwoPi = 2 * std::numbers::pi_v<Real>;

// The pair, counted in units of `dim`, that turns `rotations` times over the original context.
Real YarnCorrection(const RopeConfig& rope, double rotations) {
  return rope.dim * std::log(rope.original_max_positions / (rotations * kTwoPi)) /
         (2 * std::log(Real{rope.theta}));
}

// arXiv 2309.00071, as in deepseek-ai/DeepSeek-V3 inference/model.py: fast pairs keep their
// frequency, slow ones are stretched by the factor, with a linear ramp between. `pair` runs over
// dim / 2 although the ends of the ramp are in units of dim; all implementations have it so.
Real YarnFrequency(const RopeConfig& rope, int pair, Real frequency) {
  const Real low = std::max(std::floor(YarnCorrection(rope, rope.beta_fast)), Real{0});
  Real high = std::min(std::ceil(YarnCorrection(rope, rope.beta_slow)), Real(rope.dim - 1));
  if (low == high) high += Real{0.001};
  const Real ramp = std::clamp((pair - low) / (high - low), Real{0}, Real{1});
  return frequency * (1 - ramp) + frequency / rope.factor * ramp;
}

// Llama-3.1: the same idea by wavelength (transformers modeling_rope_utils.py).
Real Llama3Frequency(const RopeConfig& rope, Real frequency) {
  const Real wavelength = kTwoPi / frequency;
  const Real turns = rope.original_max_positions / wavelength;  // over the original context
  if (turns < rope.low_freq_factor) return frequency / rope.factor;
  if (turns > rope.high_freq_factor) return frequency;
  const Real kept = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - kept) * frequency / rope.factor + kept * frequency;
}

void ReadYarn(JsonReader& scaling, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.scaling = RopeConfig::Scaling::kYarn;
  rope.beta_fast = scaling.NumberOr("beta_fast", 32.0, {1e-3, 1e6});
  rope.beta_slow = scaling.NumberOr("beta_slow", 1.0, {1e-3, 1e6});
  // Their defaults differ: a file with neither asks for the ratio that we refuse.
  const double mscale = scaling.NumberOr("mscale", 1.0, {0.0, 100.0});
  rope.mscale_all_dim = scaling.NumberOr("mscale_all_dim", 0.0, {0.0, 100.0});
  if (rope.factor > 1.0 && mscale != rope.mscale_all_dim) {
    // cos and sin would be multiplied by the ratio of two temperatures. No published model has
    // that.
    const std::string why =
        absl::StrCat("must equal mscale (", mscale, "): scaled cos and sin are not implemented");
    scaling.Refuse("mscale_all_dim", why);
  }
  if (rope.beta_fast <= rope.beta_slow) scaling.Refuse("beta_fast", "must exceed beta_slow");
  if (!scaling.BoolOr("truncate", true)) scaling.Refuse("truncate", "must be true");
  if (scaling.Has("attention_factor")) scaling.Refuse("attention_factor", "not implemented");
  scaling.RefuseUnknown({"type", "rope_type", "factor", "original_max_position_embeddings",
                         "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
                         "attention_factor", "rope_theta"});
}

void ReadLlama3(JsonReader& scaling, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.scaling = RopeConfig::Scaling::kLlama3;
  rope.low_freq_factor = scaling.Number("low_freq_factor", {1e-3, 1e6});
  rope.high_freq_factor = scaling.Number("high_freq_factor", {1e-3, 1e6});
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    scaling.Refuse("high_freq_factor", "must exceed low_freq_factor");
  }
  scaling.RefuseUnknown({"type", "rope_type", "factor", "original_max_position_embeddings",
                         "low_freq_factor", "high_freq_factor", "rope_theta"});
}

}  // namespace

double YarnTemperature(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

std::vector<double> InverseFrequencies(const RopeConfig& rope) {
  ORRERY_CHECK(rope.dim > 0 && rope.dim % 2 == 0) << "rope dim " << rope.dim;
  std::vector<double> frequencies(rope.dim / 2);
  for (int pair = 0; pair < rope.dim / 2; ++pair) {
    // In long double, rounded once: an ulp more or less in some version of the math library does
    // not show.
    Real frequency = std::pow(Real{rope.theta}, Real(-2 * pair) / rope.dim);
    if (rope.scaling == RopeConfig::Scaling::kYarn)
      frequency = YarnFrequency(rope, pair, frequency);
    if (rope.scaling == RopeConfig::Scaling::kLlama3) frequency = Llama3Frequency(rope, frequency);
    frequencies[pair] = static_cast<double>(frequency);
  }
  return frequencies;
}

void ReadRopeFields(JsonReader& fields, ModelConfig& config) {
  config.rope.theta = fields.Number("rope_theta", {1.0001, 1e12});
  const Json& value = fields.Value("rope_scaling");
  if (value.is_null()) return;
  JsonReader scaling(value, absl::StrCat(fields.where(), ": rope_scaling"));
  const std::string_view key = scaling.Has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling.String(key);
  const bool is_mla = config.attention == ModelConfig::AttentionKind::kMla;
  if (type == "yarn" || type == "llama3") {
    config.rope.factor = scaling.Number("factor", {1.0, 1e6});
    config.rope.original_max_positions =
        scaling.Int("original_max_position_embeddings", {1, kMaxPositions});
  }
  if (type == "yarn" && is_mla) {
    ReadYarn(scaling, config);
  } else if (type == "llama3" && !is_mla) {
    ReadLlama3(scaling, config);
  } else if (type != "default" && scaling.Has(key)) {
    scaling.Refuse(key, is_mla ? "we implement yarn for this architecture"
                               : "we implement llama3 for this architecture");
  }
  fields.Include(scaling);
}

}  // namespace orrery
