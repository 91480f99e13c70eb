#include "checkpoint/chat_template.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/file.h"
#include "checkpoint/json.h"
#include "checkpoint/template_habits.h"

namespace orrery {
namespace {

using Role = ChatMessage::Role;

constexpr std::string_view kThinkOpener = "<think>\n";
constexpr std::string_view kThinkEnd = "</think>";

// Neighbours of one kind become one piece: text is tokenised across the seam.
void Append(SpecialText special, std::string_view text, std::vector<PromptPiece>& pieces) {
  if (text.empty()) return;
  if (pieces.empty() || pieces.back().special != special) pieces.push_back({special, ""});
  pieces.back().text.append(text);
}

// All system messages stand in front, wherever they came.
std::string SystemText(const std::vector<ChatMessage>& messages,
                       ChatTemplate::SystemTexts system_texts) {
  std::vector<std::string> texts;
  for (const ChatMessage& message : messages) {
    if (message.role == Role::kSystem) texts.push_back(message.content);
  }
  if (texts.empty()) return "";
  if (system_texts == ChatTemplate::SystemTexts::kKeepLast) return texts.back();
  return absl::StrJoin(texts, "\n\n");
}

std::string_view PastAnswer(std::string_view content, const ChatTemplate::Habits& habits) {
  const size_t end = content.rfind(kThinkEnd);
  if (!habits.drop_past_thinking || end == std::string_view::npos) return content;
  content.remove_prefix(end + kThinkEnd.size());
  if (habits.trim_past_newlines) {
    content.remove_prefix(std::min(content.find_first_not_of('\n'), content.size()));
  }
  return content;
}

// A token of tokenizer_config.json: its text, or an object with the text as "content".
std::string TokenText(JsonReader& fields, std::string_view name) {
  const Json& value = fields.Value(name);
  if (!value.is_object()) return fields.String(name);
  JsonReader token(value, absl::StrCat(fields.where(), ": ", std::string(name)));
  const std::string text = token.String("content");
  fields.Include(token);
  return text;
}

// "chat_template" is the text, or a list of named ones.
std::string TemplateText(JsonReader& fields) {
  const Json& value = fields.Value("chat_template");
  if (!value.is_array()) return fields.String("chat_template");
  for (const Json& item : value) {
    JsonReader named(item, absl::StrCat(fields.where(), ": chat_template"));
    const std::string name = named.String("name");
    const std::string text = named.String("template");
    fields.Include(named);
    if (name == "default") return text;
  }
  fields.Refuse("chat_template", "has no template named default");
  return "";
}

absl::StatusOr<ChatTemplate> FromConfig(const Json& config, const std::string& origin) {
  JsonReader fields(config, origin);
  const std::string text = TemplateText(fields);
  const std::string bos = TokenText(fields, "bos_token");
  RETURN_IF_ERROR(fields.status());
  absl::StatusOr<ChatTemplate::Habits> habits = ReadTemplateHabits(text);
  if (!habits.ok()) {
    return absl::Status(habits.status().code(),
                        absl::StrCat(origin, ": chat_template: ", habits.status().message()));
  }
  habits->bos = bos;
  return ChatTemplate(*std::move(habits));
}

}  // namespace

ChatTemplate ChatTemplate::V3() { return ChatTemplate(Habits{}); }

ChatTemplate ChatTemplate::R1(bool open_thinking) {
  Habits habits;
  habits.drop_past_thinking = true;
  habits.open_thinking = open_thinking;
  return ChatTemplate(habits);
}

absl::StatusOr<ChatTemplate> ChatTemplate::Open(const std::string& model_dir) {
  const std::string path = JoinPath(model_dir, "tokenizer_config.json");
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(Json config, ParseJson(text, path));
  const std::string jinja_path = JoinPath(model_dir, "chat_template.jinja");
  if (config.is_object() && !config.contains("chat_template") && FileExists(jinja_path)) {
    ASSIGN_OR_RETURN(config["chat_template"], ReadFile(jinja_path, kMaxConfigBytes));
  }
  return FromConfig(config, path);
}

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(const std::string& tokenizer_config_json,
                                                 const std::string& origin) {
  ASSIGN_OR_RETURN(const Json config, ParseJson(tokenizer_config_json, origin));
  return FromConfig(config, origin);
}

bool ChatTemplate::OpensThinking(const Options& options) const {
  if (!options.add_generation_prompt) return false;
  if (options.thinking == Options::Thinking::kByTemplate) return habits_.open_thinking;
  return options.thinking == Options::Thinking::kOpen;
}

absl::StatusOr<std::vector<PromptPiece>> ChatTemplate::Render(
    const std::vector<ChatMessage>& messages, const Options& options) const {
  if (messages.empty()) return absl::InvalidArgumentError("there are no messages");
  const auto is_user = [](const ChatMessage& message) { return message.role == Role::kUser; };
  if (std::none_of(messages.begin(), messages.end(), is_user)) {
    return absl::InvalidArgumentError(
        absl::StrCat("none of the ", messages.size(), " messages is of the user"));
  }
  std::vector<PromptPiece> pieces;
  const auto marker = [&](std::string_view text) { Append(SpecialText::kRecognize, text, pieces); };
  const auto plain = [&](std::string_view text) { Append(SpecialText::kPlain, text, pieces); };

  marker(habits_.bos);
  plain(SystemText(messages, habits_.system_texts));
  bool answer_is_open = false;
  for (const ChatMessage& message : messages) {
    if (message.role == Role::kUser) {
      marker(habits_.user);
      plain(message.content);
      if (habits_.user_opens_answer) marker(habits_.assistant);
      answer_is_open = habits_.user_opens_answer;
    } else if (message.role == Role::kAssistant) {
      if (!habits_.user_opens_answer) marker(habits_.assistant);
      plain(PastAnswer(message.content, habits_));
      marker(habits_.eos);
      answer_is_open = false;
    }
  }
  if (options.add_generation_prompt && !answer_is_open) marker(habits_.assistant);
  if (OpensThinking(options)) marker(kThinkOpener);
  return pieces;
}

std::string JoinPieces(const std::vector<PromptPiece>& pieces) {
  std::string text;
  for (const PromptPiece& piece : pieces) text += piece.text;
  return text;
}

absl::StatusOr<std::vector<int32_t>> EncodePieces(const Tokenizer& tokenizer,
                                                  const std::vector<PromptPiece>& pieces) {
  std::vector<int32_t> ids;
  for (const PromptPiece& piece : pieces) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> piece_ids,
                     tokenizer.Encode(piece.text, piece.special));
    ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
  }
  return ids;
}

}  // namespace orrery
