// How one family of architectures is read from its config.json. Internal to model_config.cc.
#ifndef ORRERY_CHECKPOINT_CONFIG_FIELDS_H_
#define ORRERY_CHECKPOINT_CONFIG_FIELDS_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "checkpoint/json.h"
#include "checkpoint/model_config.h"

namespace orrery {

// Sizes beyond these are mistakes (DeepSeek-V3: width 18432, 61 layers, 256 experts, vocabulary
// 129280). They also keep every product of two widths, and every index of ours, inside 64 and 32
// bits.
inline constexpr int64_t kMaxWidth = 1 << 20;
inline constexpr int64_t kMaxHeads = 1 << 12;
inline constexpr int64_t kMaxLayers = 1 << 12;
inline constexpr int64_t kMaxExperts = 1 << 16;
inline constexpr int64_t kMaxVocab = 1 << 24;
inline constexpr int64_t kMaxPositions = 1 << 30;
// Values of all heads of one token.
inline constexpr int64_t kMaxHeadsWidth = 1 << 24;

// MLA, with or without MoE. `default_sigmoid`: what files of DeepSeek-V3's architecture mean when
// they leave scoring_func and topk_method out (newer transformers do); V2 means softmax and greedy.
void ReadDeepseekFields(JsonReader& fields, bool default_sigmoid, ModelConfig& config);
// GQA, dense. Qwen2 has biases on q, k and v though its config does not say so.
void ReadDenseFields(JsonReader& fields, bool is_qwen2, ModelConfig& config);

// rope_theta and rope_scaling into config.rope, whose dim and pairing are already set.
void ReadRopeFields(JsonReader& fields, ModelConfig& config);
// 0.1 * mscale * ln(factor) + 1: the temperature of YaRN.
double YarnTemperature(double factor, double mscale);

// Names of the fields that each reader understands or may ignore.
std::vector<std::string_view> DeepseekFieldNames();
std::vector<std::string_view> DenseFieldNames(bool is_qwen2);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_CONFIG_FIELDS_H_
