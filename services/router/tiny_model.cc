#include "services/router/tiny_model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"

namespace orrery {
namespace {

// GPT-2's byte alphabet: printable bytes stand for themselves, the others for U+0100 and up, in
// order.
std::string ByteCharacter(int byte) {
  const auto is_printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  int code = byte;
  if (!is_printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += is_printable(b) ? 0 : 1;
  }
  if (code < 128) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

std::string AddedToken(int32_t id, const std::string& text, bool special) {
  return absl::StrCat("{\"id\": ", id, ", \"content\": \"", text,
                      "\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, ",
                      "\"normalized\": false, \"special\": ", special ? "true" : "false", "}");
}

// In the layout of DeepSeek-V3's tokenizer.json, without merges.
std::string TokenizerJson(bool has_thinking) {
  const ChatTemplate::Habits habits;
  std::vector<std::string> added = {
      AddedToken(kTinyBos, habits.bos, true), AddedToken(kTinyEos, habits.eos, true),
      AddedToken(kTinyUser, habits.user, true), AddedToken(kTinyAssistant, habits.assistant, true)};
  if (has_thinking) {
    added.push_back(AddedToken(kTinyThink, "<think>", false));
    added.push_back(AddedToken(kTinyEndThink, "</think>", false));
  }
  std::vector<std::string> vocab;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string character = ByteCharacter(byte);
    const bool needs_escape = character == "\"" || character == "\\";
    vocab.push_back(absl::StrCat("\"", needs_escape ? "\\" : "", character,
                                 "\": ", TinyByteId(static_cast<unsigned char>(byte))));
  }
  return absl::StrCat(
      R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [)",
      absl::StrJoin(added, ", "), R"(], "normalizer": {"type": "Sequence", "normalizers": []},
      "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "\\p{N}"}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
      "post_processor": null,
      "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                  "use_regex": true},
      "model": {"type": "BPE", "vocab": {)",
      absl::StrJoin(vocab, ", "), R"(}, "merges": []}})");
}

}  // namespace

std::vector<int32_t> TinyIds(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(TinyByteId(static_cast<unsigned char>(c)));
  return ids;
}

ServedModel MakeTinyModel(const TinyModelOptions& options) {
  absl::StatusOr<Tokenizer> tokenizer =
      Tokenizer::Parse(TokenizerJson(options.has_thinking), "tiny tokenizer");
  ORRERY_CHECK(tokenizer.ok()) << tokenizer.status().ToString();
  ModelConfig config;
  config.model_type = "deepseek_v3";
  config.vocab_size = kTinyVocabSize;
  config.max_positions = options.max_context_tokens;
  config.eos_ids = {kTinyEos};
  ChatTemplate::Habits habits;
  habits.drop_past_thinking = true;
  habits.trim_past_newlines = true;
  habits.open_thinking = options.has_thinking;
  const ThinkingMarkers markers = FindThinkingMarkers(*tokenizer);
  return ServedModel{.name = "tiny",
                     .config = std::move(config),
                     .tokenizer = *std::move(tokenizer),
                     .chat_template = ChatTemplate(habits),
                     .markers = markers,
                     .max_context_tokens = options.max_context_tokens,
                     .fingerprint = {.config_hash = "c0", .files = {}}};
}

}  // namespace orrery
