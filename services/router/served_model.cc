#include "services/router/served_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "checkpoint/file.h"
#include "checkpoint/kv_cache_size.h"

namespace orrery {

absl::StatusOr<ServedModel> OpenServedModel(const internal::ClusterFile& cluster,
                                            const std::string& model_dir) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(model_dir));
  ASSIGN_OR_RETURN(const int max_context_tokens,
                   ContextLimit(config, cluster.limits(), cluster.numerics().precision()));
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Open(model_dir));
  if (tokenizer.num_ids() > config.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(model_dir, ": tokenizer.json has ids up to ", tokenizer.num_ids() - 1,
                     ", config.json a vocab_size of ", config.vocab_size));
  }
  ASSIGN_OR_RETURN(const std::string config_text,
                   ReadFile(JoinPath(model_dir, "config.json"), kMaxConfigBytes));
  const ThinkingMarkers markers = FindThinkingMarkers(tokenizer);
  return ServedModel{.name = cluster.model().name(),
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

absl::StatusOr<int> ContextLimit(const ModelConfig& config, const internal::Limits& limits,
                                 internal::Precision precision) {
  if (limits.max_context_tokens() > config.max_positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("limits.max_context_tokens is ", limits.max_context_tokens(),
                     "; the model's configuration allows ", config.max_positions));
  }
  if (limits.num_draft_tokens() > 0 && !config.has_mtp()) {
    return absl::InvalidArgumentError(absl::StrCat("limits.num_draft_tokens is ",
                                                   limits.num_draft_tokens(),
                                                   "; the model has no MTP module to draft with"));
  }
  const int value_bytes = precision == internal::PRECISION_F32 ? 4 : 2;
  const bool with_mtp = limits.num_draft_tokens() > 0;
  const int64_t cache_tokens =
      KvCacheTokens(config, limits.kv_cache_bytes(), value_bytes, with_mtp);
  // Drafts stand behind the last token.
  const int64_t needed = std::max(1, limits.max_context_tokens()) + limits.num_draft_tokens();
  if (cache_tokens < needed) {
    return absl::InvalidArgumentError(absl::StrCat(
        "limits.kv_cache_bytes is ", limits.kv_cache_bytes(),
        limits.kv_cache_bytes() == 0 ? " (the default)" : "", ", which holds ", cache_tokens,
        " tokens (", KvBytesPerToken(config, value_bytes, with_mtp), " bytes each, in blocks of ",
        kKvCacheBlockTokens, "); the longest request needs ", needed, ", drafts included"));
  }
  const int limit =
      limits.max_context_tokens() > 0 ? limits.max_context_tokens() : config.max_positions;
  return static_cast<int>(std::min<int64_t>(limit, cache_tokens - limits.num_draft_tokens()));
}

ThinkingMarkers FindThinkingMarkers(const Tokenizer& tokenizer) {
  return {.open = tokenizer.TokenId("<think>"), .close = tokenizer.TokenId("</think>")};
}

}  // namespace orrery
