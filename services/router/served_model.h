// What the router knows of the model: configuration, tokenizer, chat template. No weights.
//
//   ASSIGN_OR_RETURN(ServedModel model, OpenServedModel(cluster, ModelDir(cluster, *self)));
//
// Errors: those of the files, with their names. A chat template that is not understood is none: the
// model then takes texts and ids, and requests with messages get the reason
// (chat_template.status()).
// Threads: immutable after opening.
#ifndef ORRERY_SERVICES_ROUTER_SERVED_MODEL_H_
#define ORRERY_SERVICES_ROUTER_SERVED_MODEL_H_

#include <cstdint>
#include <optional>
#include <string>

#include "checkpoint/chat_template.h"
#include "checkpoint/fingerprint.h"
#include "checkpoint/model_config.h"
#include "checkpoint/tokenizer.h"
#include "proto/cluster.pb.h"

namespace orrery {

// The ids of <think> and </think>, where the tokenizer has them as tokens.
struct ThinkingMarkers {
  std::optional<int32_t> open;
  std::optional<int32_t> close;
};

struct ServedModel {
  std::string name;
  ModelConfig config;
  Tokenizer tokenizer;
  absl::StatusOr<ChatTemplate> chat_template;
  ThinkingMarkers markers;
  // Longest prompt plus answer.
  int max_context_tokens = 0;
  // The configuration's hash only.
  Fingerprint fingerprint;
};

// The model of the cluster file, read from the folder where this member finds it.
absl::StatusOr<ServedModel> OpenServedModel(const internal::ClusterFile& cluster,
                                            const std::string& model_dir);

// What the cluster file says, or else the smaller of what the configuration allows and what the
// cache of a rank holds. INVALID_ARGUMENT with the numbers if the cluster file asks for more than
// the model or the cache can do.
absl::StatusOr<int> ContextLimit(const ModelConfig& config, const internal::Limits& limits,
                                 internal::Precision precision);

ThinkingMarkers FindThinkingMarkers(const Tokenizer& tokenizer);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_SERVED_MODEL_H_
