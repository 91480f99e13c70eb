#include "services/router/prompt.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "services/router/parameter_check.h"

namespace orrery {
namespace {

absl::StatusOr<std::vector<int32_t>> EncodeText(const ServedModel& model, const std::string& text) {
  if (text.empty()) return absl::InvalidArgumentError("the prompt is empty");
  return model.tokenizer.Encode(text, SpecialText::kPlain);
}

absl::StatusOr<ChatMessage::Role> ToRole(v1::MessageRole role, int index) {
  switch (role) {
    case v1::MESSAGE_ROLE_SYSTEM:
      return ChatMessage::Role::kSystem;
    case v1::MESSAGE_ROLE_USER:
      return ChatMessage::Role::kUser;
    case v1::MESSAGE_ROLE_ASSISTANT:
      return ChatMessage::Role::kAssistant;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("message ", index, " has no known role: ", static_cast<int>(role)));
  }
}

absl::StatusOr<ChatTemplate::Options> ToOptions(v1::Thinking thinking) {
  using Thinking = ChatTemplate::Options::Thinking;
  switch (thinking) {
    case v1::THINKING_UNSPECIFIED:
      return ChatTemplate::Options{.thinking = Thinking::kByTemplate};
    case v1::THINKING_OPEN:
      return ChatTemplate::Options{.thinking = Thinking::kOpen};
    case v1::THINKING_LEAVE_TO_MODEL:
      return ChatTemplate::Options{.thinking = Thinking::kLeaveToModel};
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("thinking has no value ", static_cast<int>(thinking)));
  }
}

absl::StatusOr<std::vector<int32_t>> EncodeMessages(const ServedModel& model,
                                                    const v1::ChatMessages& messages,
                                                    v1::Thinking thinking) {
  if (messages.message().empty()) {
    return absl::InvalidArgumentError("the prompt is empty: no messages");
  }
  if (!model.chat_template.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model \"", model.name,
        "\" takes no messages, only text or ids: ", model.chat_template.status().message()));
  }
  ASSIGN_OR_RETURN(const ChatTemplate::Options options, ToOptions(thinking));
  std::vector<ChatMessage> chat;
  bool has_text = false;
  for (const v1::ChatMessage& message : messages.message()) {
    has_text = has_text || !message.content().empty();
    ASSIGN_OR_RETURN(const ChatMessage::Role role,
                     ToRole(message.role(), static_cast<int>(chat.size())));
    chat.push_back({role, message.content()});
  }
  if (!has_text) return absl::InvalidArgumentError("the prompt is empty: no message has a text");
  ASSIGN_OR_RETURN(const std::vector<PromptPiece> pieces,
                   model.chat_template->Render(chat, options));
  return EncodePieces(model.tokenizer, pieces);
}

absl::StatusOr<std::vector<int32_t>> PromptIds(const ServedModel& model,
                                               const v1::GenerateRequest& request) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      return EncodeText(model, request.text());
    case v1::GenerateRequest::kMessages:
      return EncodeMessages(model, request.messages(), request.thinking());
    case v1::GenerateRequest::kIds: {
      std::vector<int32_t> ids(request.ids().id().begin(), request.ids().id().end());
      RETURN_IF_ERROR(CheckIds(model, ids));
      return ids;
    }
    default:
      return absl::InvalidArgumentError("the request has no prompt: text, messages or ids");
  }
}

}  // namespace

absl::StatusOr<Prompt> BuildPrompt(const ServedModel& model, const v1::GenerateRequest& request) {
  RETURN_IF_ERROR(CheckModelName(model, request.model()));
  RETURN_IF_ERROR(CheckParameters(model, request));
  Prompt prompt;
  ASSIGN_OR_RETURN(prompt.ids, PromptIds(model, request));
  if (prompt.ids.empty()) return absl::InvalidArgumentError("the prompt is empty: no token");

  const int64_t num_prompt = static_cast<int64_t>(prompt.ids.size());
  const int64_t limit = model.max_context_tokens;
  if (num_prompt >= limit) {
    return absl::InvalidArgumentError(
        absl::StrCat("the prompt has ", num_prompt, " tokens; the context limit of model \"",
                     model.name, "\" is ", limit, " tokens, the answer included"));
  }
  if (num_prompt + request.max_new_tokens() > limit) {
    return absl::InvalidArgumentError(
        absl::StrCat("the prompt has ", num_prompt, " tokens and max_new_tokens is ",
                     request.max_new_tokens(), ", together ", num_prompt + request.max_new_tokens(),
                     "; the context limit of model \"", model.name, "\" is ", limit));
  }
  prompt.max_new_tokens = request.max_new_tokens() > 0 ? request.max_new_tokens()
                                                       : static_cast<int>(limit - num_prompt);
  if (request.min_new_tokens() > prompt.max_new_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("min_new_tokens is ", request.min_new_tokens(), "; the prompt has ",
                     num_prompt, " tokens, which leaves ", prompt.max_new_tokens,
                     " of the context limit of model \"", model.name, "\", ", limit));
  }
  prompt.starts_in_thinking = EndsInThinking(model.markers, prompt.ids);
  return prompt;
}

absl::StatusOr<std::vector<int32_t>> BuildTokens(const ServedModel& model,
                                                 const v1::TokenizeRequest& request) {
  RETURN_IF_ERROR(CheckModelName(model, request.model()));
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText:
      return model.tokenizer.Encode(request.text(), SpecialText::kPlain);
    case v1::TokenizeRequest::kMessages:
      return EncodeMessages(model, request.messages(), request.thinking());
    default:
      return absl::InvalidArgumentError("the request has no input: text or messages");
  }
}

absl::Status CheckModelName(const ServedModel& model, const std::string& name) {
  if (name.empty() || name == model.name) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("unknown model \"", name, "\"; this cluster serves \"", model.name, "\""));
}

absl::Status CheckIds(const ServedModel& model, absl::Span<const int32_t> ids) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= model.config.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("id ", ids[i], " at position ", i,
                                                     " is outside the vocabulary, 0 to ",
                                                     model.config.vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

bool EndsInThinking(const ThinkingMarkers& markers, absl::Span<const int32_t> ids) {
  for (size_t i = ids.size(); i-- > 0;) {
    if (ids[i] == markers.close) return false;
    if (ids[i] == markers.open) return true;
  }
  return false;
}

}  // namespace orrery
