#include "tools/check/check_text.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "checkpoint/chat_template.h"
#include "checkpoint/published_models.h"
#include "checkpoint/tokenizer.h"

namespace orrery {
namespace {

absl::StatusOr<ChatMessage> ReadMessage(const nlohmann::json& json) {
  const std::string role = json.at("role").get<std::string>();
  ChatMessage message;
  message.content = json.at("content").get<std::string>();
  if (role == "system") {
    message.role = ChatMessage::Role::kSystem;
  } else if (role == "user") {
    message.role = ChatMessage::Role::kUser;
  } else if (role == "assistant") {
    message.role = ChatMessage::Role::kAssistant;
  } else {
    return absl::InvalidArgumentError(absl::StrCat("role '", role, "' is not known"));
  }
  return message;
}

// Empty if one text's case holds, else what differs.
std::string CheckText(const Tokenizer& tokenizer, const nlohmann::json& text_case) {
  const std::string text = text_case.at("text").get<std::string>();
  const std::vector<int32_t> expected = text_case.at("ids").get<std::vector<int32_t>>();
  const absl::StatusOr<std::vector<int32_t>> ids = tokenizer.Encode(text, SpecialText::kRecognize);
  if (!ids.ok()) return std::string(ids.status().message());
  for (size_t i = 0; i < std::max(ids->size(), expected.size()); ++i) {
    if (i >= ids->size() || i >= expected.size() || (*ids)[i] != expected[i]) {
      return absl::StrCat("id ", i, " is ", i < ids->size() ? absl::StrCat((*ids)[i]) : "missing",
                          ", expected ",
                          i < expected.size() ? absl::StrCat(expected[i]) : "no more");
    }
  }
  const std::string decoded = tokenizer.Decode(expected, SpecialTokens::kSkip);
  if (decoded != text_case.at("decode_skip_special").get<std::string>())
    return "decodes to something else";
  DetokenizerStream stream(&tokenizer, SpecialTokens::kSkip);
  std::string streamed;
  for (const int32_t id : expected) streamed += stream.Append(id);
  streamed += stream.Finish();
  if (streamed != decoded) return "decodes differently token by token";
  return "";
}

}  // namespace

absl::Status CheckTokenizer(const GoldenFile& golden, Report& report) {
  report.Title(golden.dir());
  const absl::StatusOr<Tokenizer> tokenizer = Tokenizer::Open(golden.dir());
  if (tokenizer.status().code() == absl::StatusCode::kNotFound) {
    report.Skipped("tokenizer",
                   absl::StrCat("there is no ", golden.dir(), "/tokenizer.json to check"));
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(tokenizer.status());
  try {
    int num_right = 0;
    const nlohmann::json& cases = golden.json().at("cases");
    for (size_t i = 0; i < cases.size(); ++i) {
      const std::string problem = CheckText(*tokenizer, cases[i]);
      if (problem.empty()) {
        ++num_right;
      } else {
        report.Line(false, absl::StrCat("case ", i), problem);
      }
    }
    if (num_right == static_cast<int>(cases.size())) {
      report.Line(true, "encode and decode", absl::StrCat("exact, ", num_right, " texts"));
    }
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(golden.dir(), "/golden.json: ", e.what()));
  }
  return absl::OkStatus();
}

absl::Status CheckChatTemplates(const GoldenFile& golden, Report& report) {
  report.Title(golden.dir());
  try {
    int num_right = 0;
    const nlohmann::json& cases = golden.json().at("cases");
    for (const nlohmann::json& chat : cases) {
      ASSIGN_OR_RETURN(const ChatTemplate chat_template,
                       PublishedChatTemplate(chat.at("template").get<std::string>()));
      std::vector<ChatMessage> messages;
      for (const nlohmann::json& json : chat.at("messages")) {
        ASSIGN_OR_RETURN(ChatMessage message, ReadMessage(json));
        messages.push_back(std::move(message));
      }
      const absl::StatusOr<std::vector<PromptPiece>> pieces = chat_template.Render(
          messages, {.add_generation_prompt = chat.value("add_generation_prompt", true)});
      const std::string rendered =
          pieces.ok() ? JoinPieces(*pieces) : std::string(pieces.status().message());
      if (rendered == chat.at("expected").get<std::string>()) {
        ++num_right;
      } else {
        report.Line(
            false,
            absl::StrCat(chat.at("template").get<std::string>(), " ", chat.value("name", "?")),
            absl::StrCat("renders as ", rendered));
      }
    }
    if (num_right == static_cast<int>(cases.size())) {
      report.Line(true, "chat templates", absl::StrCat("exact, ", num_right, " chats"));
    }
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(golden.dir(), "/golden.json: ", e.what()));
  }
  return absl::OkStatus();
}

}  // namespace orrery
