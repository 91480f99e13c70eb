// What is published about models and chat templates that tests and tools refer to by name, without
// having their files.
//
//   ASSIGN_OR_RETURN(ModelConfig config, PublishedModelConfig("deepseek_v3_r1"));
//   InverseFrequencies(config.rope), config.softmax_scale ...
//
// Serving never looks here: a model is what its files say.
#ifndef ORRERY_CHECKPOINT_PUBLISHED_MODELS_H_
#define ORRERY_CHECKPOINT_PUBLISHED_MODELS_H_

#include <string_view>

#include "absl/types/span.h"
#include "base/status.h"
#include "checkpoint/chat_template.h"
#include "checkpoint/model_config.h"

namespace orrery {

struct PublishedModel {
  std::string_view name;
  std::string_view source;
  std::string_view config_json;
};

absl::Span<const PublishedModel> PublishedModels();

// NOT_FOUND with the known names.
absl::StatusOr<ModelConfig> PublishedModelConfig(std::string_view name);

// "v3", "r1_first_release" or "r1_forced_think"; NOT_FOUND with the known names.
absl::StatusOr<ChatTemplate> PublishedChatTemplate(std::string_view name);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_PUBLISHED_MODELS_H_
