// Chat messages to the prompt text of a model.
//
//   ASSIGN_OR_RETURN(ChatTemplate chat_template, ChatTemplate::Open(dir));
//   ASSIGN_OR_RETURN(std::vector<PromptPiece> pieces, chat_template.Render(messages, {}));
//
//   <bos>{system texts}<user>{question}<assistant>{answer}<eos>
//   <user>{question}<assistant>[<think>\n]
//
// The DeepSeek family (V3, R1, the distills, the bundled model) differs in a few habits, which are
// read off the chat_template text of tokenizer_config.json. The template is not executed: one that
// is not of this family, or that has a switch of its own (the thinking modes of V3.1), is an
// INVALID_ARGUMENT that says what was not understood. Tool calls are not rendered yet.
#ifndef ORRERY_CHECKPOINT_CHAT_TEMPLATE_H_
#define ORRERY_CHECKPOINT_CHAT_TEMPLATE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "checkpoint/tokenizer.h"

namespace orrery {

struct ChatMessage {
  enum class Role { kSystem, kUser, kAssistant };
  Role role = Role::kUser;
  std::string content;
};

// A run of prompt text: markers of the template are tokens, contents of messages are plain text and
// can not forge them.
struct PromptPiece {
  SpecialText special = SpecialText::kPlain;
  std::string text;
};

class ChatTemplate {
 public:
  enum class SystemTexts { kJoinAll, kKeepLast };
  struct Habits {
    SystemTexts system_texts = SystemTexts::kJoinAll;  // kJoinAll: with "\n\n" between
    bool drop_past_thinking = false;  // past answers lose everything up to the last </think>
    bool trim_past_newlines = false;  // ...and then leading newlines
    bool open_thinking = false;       // the prompt ends with <think>\n
    // The assistant's marker follows each user text, instead of preceding each answer (V3-0324,
    // R1-0528). Shows only where turns do not alternate.
    bool user_opens_answer = false;
    std::string bos = "<｜begin▁of▁sentence｜>";
    std::string eos = "<｜end▁of▁sentence｜>";
    std::string user = "<｜User｜>";
    std::string assistant = "<｜Assistant｜>";
  };
  struct Options {
    bool add_generation_prompt = true;
    // Overrides the template: whether the prompt opens the thinking by itself.
    enum class Thinking { kByTemplate, kOpen, kLeaveToModel } thinking = Thinking::kByTemplate;
  };

  explicit ChatTemplate(Habits habits) : habits_(std::move(habits)) {}
  // The published templates: DeepSeek-V3 (December 2024), and DeepSeek-R1 with or without the
  // forced <think>.
  static ChatTemplate V3();
  static ChatTemplate R1(bool open_thinking);
  // From DIR/tokenizer_config.json; DIR/chat_template.jinja stands in where it holds no template.
  static absl::StatusOr<ChatTemplate> Open(const std::string& model_dir);
  static absl::StatusOr<ChatTemplate> Parse(const std::string& tokenizer_config_json,
                                            const std::string& origin);

  // INVALID_ARGUMENT for no messages, or none of the user. Pieces next to each other differ in
  // `special`.
  absl::StatusOr<std::vector<PromptPiece>> Render(const std::vector<ChatMessage>& messages,
                                                  const Options& options) const;
  // Whether a prompt rendered with these options leaves the model inside its thinking.
  bool OpensThinking(const Options& options) const;
  const Habits& habits() const { return habits_; }

 private:
  Habits habits_;
};

// The prompt as one string: what the published templates render.
std::string JoinPieces(const std::vector<PromptPiece>& pieces);
// The prompt as token ids. INVALID_ARGUMENT for contents that are not UTF-8.
absl::StatusOr<std::vector<int32_t>> EncodePieces(const Tokenizer& tokenizer,
                                                  const std::vector<PromptPiece>& pieces);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_CHAT_TEMPLATE_H_
