// A client's request, checked and turned into what an attention rank takes.
//
//   ASSIGN_OR_RETURN(Prompt prompt, BuildPrompt(model, request));
//
// Every rule of proto/orrery.proto about a request is checked here and nowhere else, those of single
// parameters by parameter_check.h; the messages carry the value and the limit. Texts of users are plain: no character in them becomes a special
// token.
//
// Errors: NOT_FOUND (unknown model, names the known one), INVALID_ARGUMENT (everything else).
#ifndef ORRERY_SERVICES_ROUTER_PROMPT_H_
#define ORRERY_SERVICES_ROUTER_PROMPT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "proto/orrery.pb.h"
#include "services/router/served_model.h"

namespace orrery {

struct Prompt {
  std::vector<int32_t> ids;
  // The request's, or what the context limit leaves.
  int max_new_tokens = 0;
  // Whether the answer begins inside the thinking.
  bool starts_in_thinking = false;
};

absl::StatusOr<Prompt> BuildPrompt(const ServedModel& model, const v1::GenerateRequest& request);

// The ids of a text or of messages, for Tokenize. No limit but the message size.
absl::StatusOr<std::vector<int32_t>> BuildTokens(const ServedModel& model,
                                                 const v1::TokenizeRequest& request);

// NOT_FOUND unless `name` is empty or that of the model.
absl::Status CheckModelName(const ServedModel& model, const std::string& name);

// INVALID_ARGUMENT with position, value and limit for an id outside the vocabulary.
absl::Status CheckIds(const ServedModel& model, absl::Span<const int32_t> ids);

// Whether the last marker in `ids` opens a thinking.
bool EndsInThinking(const ThinkingMarkers& markers, absl::Span<const int32_t> ids);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_PROMPT_H_
