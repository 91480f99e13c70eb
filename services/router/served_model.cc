#include "services/router/served_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "checkpoint/file.h"

namespace orrery {
absl::StatusOr<ServedModel> OpenServedModel(const std::string& name, const std::string& model_dir,
                                            const internal::Limits& limits) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(model_dir));
  ASSIGN_OR_RETURN(const int max_context_tokens, ContextLimit(config, limits));
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Open(model_dir));
  if (tokenizer.num_ids() > config.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(model_dir, ": tokenizer.json has ids up to ", tokenizer.num_ids() - 1,
                     ", config.json a vocab_size of ", config.vocab_size));
  }
  ASSIGN_OR_RETURN(const std::string config_text,
                   ReadFile(JoinPath(model_dir, "config.json"), kMaxConfigBytes));
  const ThinkingMarkers markers = FindThinkingMarkers(tokenizer);
  return ServedModel{.name = name,
                     .config = std::move(config),
                     .tokenizer = std::move(tokenizer),
                     .chat_template = ChatTemplate::Open(model_dir),
                     .markers = markers,
                     .max_context_tokens = max_context_tokens,
                     .fingerprint = {.config_hash = ContentHash(absl::MakeConstSpan(
                                         reinterpret_cast<const std::byte*>(config_text.data()),
                                         config_text.size())),
                                     .files = {}}};
}

absl::StatusOr<int> ContextLimit(const ModelConfig& config, const internal::Limits& limits) {
  if (limits.max_context_tokens() > config.max_positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("limits.max_context_tokens is ", limits.max_context_tokens(),
                     "; the model's configuration allows ", config.max_positions));
  }
  int limit = limits.max_context_tokens() > 0 ? limits.max_context_tokens() : config.max_positions;
  if (limits.kv_cache_tokens() > 0) limit = std::min(limit, limits.kv_cache_tokens());
  return limit;
}

ThinkingMarkers FindThinkingMarkers(const Tokenizer& tokenizer) {
  return {.open = tokenizer.TokenId("<think>"), .close = tokenizer.TokenId("</think>")};
}

}  // namespace orrery
