// What tests of AnswerStream need: a tokenizer with tokens of their choice, and an answer run to its end.
#ifndef ORRERY_SERVICES_ATTENTION_ANSWER_STREAM_FIXTURE_H_
#define ORRERY_SERVICES_ATTENTION_ANSWER_STREAM_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/json.h"
#include "services/attention/answer_stream.h"

namespace orrery {

// A tokenizer with the tokens that a test needs behind those of the 256 bytes.
class TestTokenizer {
 public:
  // The id of a byte's token is the byte. `special` is a special token, "<|s|>".
  explicit TestTokenizer(const std::vector<std::string>& tokens) {
    Json vocab = Json::object();
    // The byte alphabet of GPT-2 writes the 188 printable Latin-1 characters as themselves, and the
    // others, in order, as U+0100 and up.
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      vocab[Utf8(printable ? byte : next++)] = byte;
    }
    Json added = Json::array();
    added.push_back({{"id", 256}, {"content", "<|s|>"}, {"special", true}});
    for (const std::string& token : tokens) {
      ids_[token] = token.size() == 1 ? static_cast<unsigned char>(token[0]) : next_id_++;
      if (token.size() == 1) continue;
      added.push_back({{"id", ids_[token]}, {"content", token}, {"special", false}});
    }
    const Json file = {{"added_tokens", added},
                       {"normalizer", nullptr},
                       {"pre_tokenizer",
                        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
                       {"post_processor", nullptr},
                       {"decoder", {{"type", "ByteLevel"}}},
                       {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
    absl::StatusOr<Tokenizer> parsed = Tokenizer::Parse(file.dump(), "test");
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    tokenizer_ = std::make_unique<Tokenizer>(*std::move(parsed));
  }

  static constexpr int32_t kSpecialId = 256;
  static constexpr int32_t kUnknownId = 1000;  // of the vocabulary, but without a token
  int32_t Id(const std::string& token) const { return ids_.at(token); }
  const Tokenizer* get() const { return tokenizer_.get(); }

 private:
  static std::string Utf8(int code) {
    if (code < 0x80) return std::string(1, static_cast<char>(code));
    return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
  }

  std::map<std::string, int32_t> ids_;
  int32_t next_id_ = 257;
  std::unique_ptr<Tokenizer> tokenizer_;
};

// What one answer did with the tokens that it got.
struct Outcome {
  std::vector<int> released_after;  // how many tokens had left after each token
  std::vector<OutputToken> released;
  std::optional<AnswerEnd> end;
  std::string text;  // of the released tokens
};

// Appends until the answer ends.
inline Outcome RunIds(const StopRules& rules, const Tokenizer* tokenizer,
                      absl::Span<const int32_t> ids) {
  AnswerStream answer(&rules, tokenizer);
  Outcome outcome;
  for (const int32_t id : ids) {
    if (outcome.end.has_value()) break;
    OutputToken token;
    token.token.id = id;
    outcome.end = answer.Append(token, outcome.released);
    outcome.released_after.push_back(static_cast<int>(outcome.released.size()));
  }
  for (size_t i = 0; i < outcome.released.size(); ++i) {
    const OutputToken& token = outcome.released[i];
    EXPECT_EQ(token.token.id, ids[i]) << "tokens leave in order";
    if (tokenizer == nullptr || tokenizer->IsSpecial(token.token.id)) continue;
    const std::string_view bytes = tokenizer->TokenBytes(token.token.id);
    EXPECT_LE(token.text_bytes.value_or(0), static_cast<int>(bytes.size()));
    outcome.text += bytes.substr(0, token.text_bytes.value_or(static_cast<int>(bytes.size())));
  }
  return outcome;
}

// Text by text, or "<|s|>" for the special token.
inline std::vector<int32_t> Ids(const TestTokenizer& tokenizer,
                                const std::vector<std::string>& tokens) {
  std::vector<int32_t> ids;
  for (const std::string& token : tokens) {
    ids.push_back(token == "<|s|>" ? TestTokenizer::kSpecialId : tokenizer.Id(token));
  }
  return ids;
}

inline Outcome RunTexts(StopRules rules, const std::vector<std::string>& tokens) {
  std::vector<std::string> ordinary = tokens;
  std::sort(ordinary.begin(), ordinary.end());
  ordinary.erase(std::unique(ordinary.begin(), ordinary.end()), ordinary.end());
  std::erase(ordinary, "<|s|>");
  const TestTokenizer tokenizer(ordinary);
  if (rules.max_new_tokens == 0) rules.max_new_tokens = 1000;
  return RunIds(rules, tokenizer.get(), Ids(tokenizer, tokens));
}

inline std::vector<std::optional<int>> TextBytes(const Outcome& outcome) {
  std::vector<std::optional<int>> text_bytes;
  for (const OutputToken& token : outcome.released) text_bytes.push_back(token.text_bytes);
  return text_bytes;
}

inline StopRules StopAt(std::vector<std::string> strings, int min_new_tokens = 0) {
  StopRules rules;
  rules.max_new_tokens = 1000;
  rules.min_new_tokens = min_new_tokens;
  rules.stop_strings = std::move(strings);
  return rules;
}

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_ANSWER_STREAM_FIXTURE_H_
