#include "checkpoint/model_config.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "checkpoint/config_fields.h"
#include "checkpoint/file.h"
#include "checkpoint/json.h"

namespace orrery {
namespace {

enum class Family { kDeepseekV2, kDeepseekV3, kQwen2, kLlama };

struct FamilyName {
  std::string_view architecture;
  std::string_view model_type;
  Family family;
};
constexpr FamilyName kFamilies[] = {
    {"DeepseekV2ForCausalLM", "deepseek_v2", Family::kDeepseekV2},
    {"DeepseekV3ForCausalLM", "deepseek_v3", Family::kDeepseekV3},
    {"Qwen2ForCausalLM", "qwen2", Family::kQwen2},
    {"LlamaForCausalLM", "llama", Family::kLlama},
};
constexpr std::string_view kKnownFamilies =
    "unknown; we implement DeepseekV2ForCausalLM, DeepseekV3ForCausalLM, Qwen2ForCausalLM and "
    "LlamaForCausalLM (deepseek_v2, deepseek_v3, qwen2, llama)";

bool IsDeepseek(Family family) {
  return family == Family::kDeepseekV2 || family == Family::kDeepseekV3;
}

// Which reader fits: `architectures` decides, model_type stands in where it is missing, and they
// must not contradict each other. (DeepSeek-V2 and -V3 are one family: their fields say
// everything.)
std::optional<Family> ReadFamily(JsonReader& fields) {
  std::optional<Family> by_architecture, by_model_type;
  const Json& architectures = fields.Value("architectures");
  if (!architectures.is_null()) {
    if (!architectures.is_array() || architectures.size() != 1 || !architectures[0].is_string()) {
      fields.Refuse("architectures", "must be a list of one name");
      return std::nullopt;
    }
    for (const FamilyName& name : kFamilies) {
      if (architectures[0].get_ref<const std::string&>() == name.architecture) {
        by_architecture = name.family;
      }
    }
    if (!by_architecture) {
      fields.Refuse("architectures", kKnownFamilies);
      return std::nullopt;
    }
  }
  if (fields.Has("model_type") || !by_architecture) {
    const std::string model_type = fields.String("model_type");
    for (const FamilyName& name : kFamilies) {
      if (model_type == name.model_type) by_model_type = name.family;
    }
    if (!by_model_type) {
      if (fields.Has("model_type")) fields.Refuse("model_type", kKnownFamilies);
      return std::nullopt;
    }
  }
  if (by_architecture && by_model_type && *by_architecture != *by_model_type &&
      !(IsDeepseek(*by_architecture) && IsDeepseek(*by_model_type))) {
    fields.Refuse("model_type",
                  absl::StrCat("contradicts architectures ", JsonText(architectures)));
    return std::nullopt;
  }
  return by_architecture ? by_architecture : by_model_type;
}

// Fields that all families share, and share the meaning of.
void ReadCommonFields(JsonReader& fields, ModelConfig& config) {
  config.model_type = fields.StringOr("model_type", "");
  config.vocab_size = fields.Int("vocab_size", {1, kMaxVocab});
  config.hidden_size = fields.Int("hidden_size", {1, kMaxWidth});
  config.num_layers = fields.Int("num_hidden_layers", {1, kMaxLayers});
  config.max_positions = fields.Int("max_position_embeddings", {1, kMaxPositions});
  config.num_heads = fields.Int("num_attention_heads", {1, kMaxHeads});
  config.intermediate_size = fields.Int("intermediate_size", {1, kMaxWidth});
  config.rms_norm_eps = fields.Number("rms_norm_eps", {1e-12, 1.0});
  config.tie_word_embeddings = fields.BoolOr("tie_word_embeddings", false);
  if (fields.String("hidden_act") != "silu" && fields.Has("hidden_act")) {
    fields.Refuse("hidden_act", "we implement silu");
  }
  if (fields.BoolOr("attention_bias", false)) {
    fields.Refuse("attention_bias",
                  "biases that the architecture does not imply are not implemented");
  }
}

// "eos_token_id" is one id, a list of ids, or null. Adds those that are not known yet.
void ReadEosIds(JsonReader& fields, ModelConfig& config) {
  const Json& value = fields.Value("eos_token_id");
  if (value.is_null()) return;
  Json ids = value.is_array() ? value : Json::array({value});
  for (const Json& id : ids) {
    if (!id.is_number_integer() || id < 0 || id >= config.vocab_size) {
      fields.Refuse("eos_token_id", absl::StrCat("must be one or several ids below vocab_size ",
                                                 config.vocab_size));
      return;
    }
    const int32_t number = id.get<int32_t>();
    if (std::find(config.eos_ids.begin(), config.eos_ids.end(), number) == config.eos_ids.end()) {
      config.eos_ids.push_back(number);
    }
  }
}

void ReadTokenIds(JsonReader& fields, ModelConfig& config) {
  config.bos_id = fields.IntOr("bos_token_id", config.bos_id, {0, config.vocab_size - 1});
  ReadEosIds(fields, config);
}

}  // namespace

int64_t KvBytesPerToken(const ModelConfig& config, int value_bytes, bool with_mtp) {
  const int64_t num_layers = config.num_layers + (with_mtp ? 1 : 0);
  return num_layers * config.kv_row_width() * value_bytes;
}

absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& config_json,
                                             const std::string& generation_config_json,
                                             const std::string& origin) {
  ASSIGN_OR_RETURN(const Json root, ParseJson(config_json, origin));
  JsonReader fields(root, origin);
  const std::optional<Family> family = ReadFamily(fields);
  RETURN_IF_ERROR(fields.status());  // Without the family there is no sense in reading on.

  ModelConfig config;
  ReadCommonFields(fields, config);
  if (IsDeepseek(*family)) {
    ReadDeepseekFields(fields, *family == Family::kDeepseekV3, config);
    fields.RefuseUnknown(DeepseekFieldNames());
  } else {
    ReadDenseFields(fields, *family == Family::kQwen2, config);
    fields.RefuseUnknown(DenseFieldNames(*family == Family::kQwen2));
  }
  ReadTokenIds(fields, config);
  RETURN_IF_ERROR(fields.status());

  // The distills' config.json names a BOS that is not the tokenizer's; generation_config.json is
  // right.
  if (!generation_config_json.empty()) {
    const std::string generation_origin = absl::StrCat(origin, " (generation_config)");
    ASSIGN_OR_RETURN(const Json generation, ParseJson(generation_config_json, generation_origin));
    JsonReader generation_fields(generation, generation_origin);
    ReadTokenIds(generation_fields, config);
    RETURN_IF_ERROR(generation_fields.status());
  }
  return config;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& model_dir) {
  const std::string path = JoinPath(model_dir, "config.json");
  ASSIGN_OR_RETURN(const std::string config_json, ReadFile(path, kMaxConfigBytes));
  const std::string generation_path = JoinPath(model_dir, "generation_config.json");
  std::string generation_json;
  if (FileExists(generation_path)) {
    ASSIGN_OR_RETURN(generation_json, ReadFile(generation_path, kMaxConfigBytes));
  }
  return ParseModelConfig(config_json, generation_json, path);
}

}  // namespace orrery
