#include "services/attention/answer_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "checkpoint/json.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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
Outcome RunIds(const StopRules& rules, const Tokenizer* tokenizer, absl::Span<const int32_t> ids) {
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
std::vector<int32_t> Ids(const TestTokenizer& tokenizer, const std::vector<std::string>& tokens) {
  std::vector<int32_t> ids;
  for (const std::string& token : tokens) {
    ids.push_back(token == "<|s|>" ? TestTokenizer::kSpecialId : tokenizer.Id(token));
  }
  return ids;
}

Outcome RunTexts(StopRules rules, const std::vector<std::string>& tokens) {
  std::vector<std::string> ordinary = tokens;
  std::sort(ordinary.begin(), ordinary.end());
  ordinary.erase(std::unique(ordinary.begin(), ordinary.end()), ordinary.end());
  std::erase(ordinary, "<|s|>");
  const TestTokenizer tokenizer(ordinary);
  if (rules.max_new_tokens == 0) rules.max_new_tokens = 1000;
  return RunIds(rules, tokenizer.get(), Ids(tokenizer, tokens));
}

std::vector<std::optional<int>> TextBytes(const Outcome& outcome) {
  std::vector<std::optional<int>> text_bytes;
  for (const OutputToken& token : outcome.released) text_bytes.push_back(token.text_bytes);
  return text_bytes;
}

StopRules StopAt(std::vector<std::string> strings, int min_new_tokens = 0) {
  StopRules rules;
  rules.max_new_tokens = 1000;
  rules.min_new_tokens = min_new_tokens;
  rules.stop_strings = std::move(strings);
  return rules;
}

// --- Stop strings ---

TEST(AnswerStream, FindsAStopStringAcrossTokensAndCutsTheTextBeforeIt) {
  const Outcome outcome = RunTexts(StopAt({"END"}), {"The", " E", "N", "DS", "never"});
  ASSERT_TRUE(outcome.end.has_value());
  EXPECT_EQ(outcome.end->reason, EndReason::kStop);
  EXPECT_EQ(outcome.end->stop_string, "END");
  EXPECT_EQ(outcome.text, "The ");
  EXPECT_THAT(outcome.released_after, ElementsAre(1, 1, 1, 4));
  EXPECT_THAT(TextBytes(outcome), ElementsAre(std::nullopt, 1, 0, 0));
}

TEST(AnswerStream, FindsAStopStringInsideOneToken) {
  const Outcome outcome = RunTexts(StopAt({"b"}), {"a", "abc"});
  EXPECT_EQ(outcome.text, "aa");
  EXPECT_THAT(TextBytes(outcome), ElementsAre(std::nullopt, 1));
}

TEST(AnswerStream, ReleasesHeldTokensOnceTheStopStringCannotComeAnyMore) {
  const Outcome outcome = RunTexts(StopAt({"abcd"}), {"x", "ab", "c", "x", "a", "b"});
  EXPECT_FALSE(outcome.end.has_value());
  EXPECT_THAT(outcome.released_after, ElementsAre(1, 1, 1, 4, 4, 4));
  EXPECT_EQ(outcome.text, "xabcx");
}

// "aab" in "aaab": the first "a" turns out to be text when the third comes.
TEST(AnswerStream, ReleasesOnlyWhatALaterBeginningDoesNotNeed) {
  const Outcome outcome = RunTexts(StopAt({"aab"}), {"a", "a", "a", "b"});
  EXPECT_THAT(outcome.released_after, ElementsAre(0, 0, 1, 4));
  EXPECT_EQ(outcome.text, "a");
}

TEST(AnswerStream, TheStringThatIsCompleteFirstCountsAndOfSeveralTheLongest) {
  EXPECT_EQ(RunTexts(StopAt({"abcd", "bc"}), {"abcd"}).end->stop_string, "bc");
  EXPECT_EQ(RunTexts(StopAt({"bc", "abc", "c"}), {"xabc"}).end->stop_string, "abc");
  EXPECT_EQ(RunTexts(StopAt({"bc", "abc", "c"}), {"xabc"}).text, "x");
}

TEST(AnswerStream, NoStopStringReachesAcrossASpecialToken) {
  const Outcome across = RunTexts(StopAt({"ab"}), {"a", "<|s|>", "b", "c"});
  EXPECT_FALSE(across.end.has_value());
  EXPECT_THAT(across.released_after, ElementsAre(0, 2, 3, 4));
  // Nor is its own name text.
  EXPECT_FALSE(RunTexts(StopAt({"|s|"}), {"a", "<|s|>", "b"}).end.has_value());
}

// The markers around thinking are ordinary tokens of the tokenizer, but no part of the text.
TEST(AnswerStream, ASilentIdHasNoTextAndNoStopStringReachesAcrossIt) {
  const TestTokenizer tokenizer({"a", "b", "</think>"});
  const std::vector<int32_t> ids = Ids(tokenizer, {"a", "</think>", "b", "a", "b"});
  const auto run = [&](const std::string& stop) {
    StopRules rules = StopAt({stop});
    rules.silent_ids = {tokenizer.Id("</think>")};
    return RunIds(rules, tokenizer.get(), ids);
  };
  EXPECT_FALSE(run(">").end.has_value());
  EXPECT_FALSE(run("a<").end.has_value());
  const Outcome across = run("ab");
  EXPECT_EQ(across.end->stop_string, "ab");
  EXPECT_THAT(across.released_after, ElementsAre(0, 2, 3, 3, 5));
  EXPECT_THAT(TextBytes(across), ElementsAre(std::nullopt, std::nullopt, std::nullopt, 0, 0));
}

TEST(AnswerStream, AnIdWithoutATokenWaitsBehindWhatIsHeldAndHasNoText) {
  const TestTokenizer tokenizer({"a", "b"});
  const std::vector<int32_t> ids = {TestTokenizer::kUnknownId, 'a', TestTokenizer::kUnknownId, 'b'};
  const StopRules rules = StopAt({"ab"});
  const Outcome outcome = RunIds(rules, tokenizer.get(), ids);
  EXPECT_THAT(outcome.released_after, ElementsAre(1, 1, 1, 4));
  EXPECT_THAT(TextBytes(outcome), ElementsAre(std::nullopt, 0, 0, 0));
}

TEST(AnswerStream, FindsAStopStringWhoseCharactersAreSplitOverTokens) {
  const std::string euro = "€";  // e2 82 ac
  const TestTokenizer tokenizer({"5"});
  const StopRules rules = StopAt({euro});
  const Outcome outcome = RunIds(rules, tokenizer.get(), {'5', 0xe2, 0x82, 0xac});
  EXPECT_EQ(outcome.end->stop_string, euro);
  EXPECT_EQ(outcome.text, "5");
}

// --- Stop ids, and how long an answer may be ---

TEST(AnswerStream, AStopIdEndsTheAnswerAsATokenWithoutText) {
  StopRules rules;
  rules.stop_ids = {'q', 'x'};
  const Outcome outcome = RunTexts(rules, {"a", "x", "b"});
  EXPECT_EQ(outcome.end->reason, EndReason::kStop);
  EXPECT_THAT(outcome.end->stop_string, IsEmpty());
  EXPECT_EQ(outcome.released.size(), 2u);
  EXPECT_EQ(outcome.text, "a");
}

TEST(AnswerStream, AStopIdReleasesWhatIsHeldInFullAndCompletesNoStopString) {
  StopRules rules = StopAt({"abx"});
  rules.stop_ids = {'x'};
  const Outcome outcome = RunTexts(rules, {"a", "b", "x"});
  EXPECT_THAT(outcome.end->stop_string, IsEmpty());
  EXPECT_EQ(outcome.text, "ab");
  EXPECT_THAT(TextBytes(outcome), ElementsAre(std::nullopt, std::nullopt, 0));
}

TEST(AnswerStream, EndsAtMaxNewTokensAndReleasesWhatIsHeldInFull) {
  StopRules rules = StopAt({"abcd"});
  rules.max_new_tokens = 3;
  const Outcome outcome = RunTexts(rules, {"a", "b", "c", "d"});
  EXPECT_EQ(outcome.end->reason, EndReason::kLength);
  EXPECT_THAT(outcome.released_after, ElementsAre(0, 0, 3));
  EXPECT_EQ(outcome.text, "abc");
}

TEST(AnswerStream, AStopAtTheLastTokenIsAStop) {
  StopRules rules = StopAt({"bc"});
  rules.max_new_tokens = 3;
  EXPECT_EQ(RunTexts(rules, {"a", "b", "c"}).end->reason, EndReason::kStop);
  rules.stop_ids = {'c'};
  EXPECT_EQ(RunTexts(rules, {"a", "b", "c"}).end->reason, EndReason::kStop);
}

TEST(AnswerStream, BansStopIdsUntilMinNewTokensAreThere) {
  StopRules rules;
  rules.max_new_tokens = 9;
  rules.min_new_tokens = 2;
  rules.stop_ids = {7, 5};
  AnswerStream answer(&rules, nullptr);
  std::vector<OutputToken> released;
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(answer.banned_ids(), ElementsAre(7, 5));
    EXPECT_FALSE(answer.Append({}, released).has_value());
  }
  EXPECT_EQ(answer.num_tokens(), 2);
  EXPECT_THAT(answer.banned_ids(), IsEmpty());
}

// All other ids were banned: the sampler had no choice.
TEST(AnswerStream, AStopIdBeforeMinNewTokensIsATokenLikeOthers) {
  StopRules rules;
  rules.min_new_tokens = 2;
  rules.stop_ids = {'x'};
  const Outcome outcome = RunTexts(rules, {"x", "x", "x"});
  EXPECT_EQ(outcome.released.size(), 3u);
  EXPECT_EQ(outcome.text, "xx");
}

TEST(AnswerStream, AStopStringBeforeMinNewTokensIsText) {
  EXPECT_EQ(RunTexts(StopAt({"ab"}, 3), {"a", "b", "a", "b", "c"}).text, "ab");
  EXPECT_EQ(RunTexts(StopAt({"ab"}, 5), {"a", "b", "a", "b", "c"}).text, "ababc");
  EXPECT_EQ(RunTexts(StopAt({"ab"}, 2), {"a", "b", "c"}).text, "") << "complete with token 2";
  // It may begin before: here the second "a" is the end of one and the beginning of the next.
  const Outcome overlapping = RunTexts(StopAt({"aa"}, 3), {"a", "a", "a"});
  EXPECT_EQ(overlapping.text, "a");
  EXPECT_THAT(overlapping.released_after, ElementsAre(0, 1, 3));
}

TEST(AnswerStream, ReleasesEveryTokenAtOnceWithoutStopStrings) {
  StopRules rules;
  rules.max_new_tokens = 3;
  const Outcome outcome = RunIds(rules, nullptr, {4, 9, 4});
  EXPECT_THAT(outcome.released_after, ElementsAre(1, 2, 3));
  EXPECT_EQ(outcome.end->reason, EndReason::kLength);
}

TEST(AnswerStream, HandsTokensOnAsTheyCame) {
  StopRules rules;
  rules.max_new_tokens = 5;
  AnswerStream answer(&rules, nullptr);
  OutputToken token;
  token.choice = 3;
  token.token = {.id = 8, .logprob = -0.5f};
  token.top = {{8, -0.5f}, {2, -1.5f}};
  std::vector<OutputToken> released(1);  // what stands there stays
  answer.Append(token, released);
  ASSERT_EQ(released.size(), 2u);
  EXPECT_EQ(released[1].choice, 3);
  EXPECT_EQ(released[1].token, token.token);
  EXPECT_EQ(released[1].top, token.top);
  EXPECT_EQ(released[1].text_bytes, std::nullopt);
}

// --- Against an oracle that searches the whole text ---

// The first byte at which a stop string is complete, and the longest such string.
std::optional<std::pair<size_t, std::string>> FirstStop(std::string_view text,
                                                        const std::vector<std::string>& strings,
                                                        size_t min_end) {
  for (size_t end = min_end; end <= text.size(); ++end) {
    const std::string* longest = nullptr;
    for (const std::string& s : strings) {
      if (text.substr(0, end).ends_with(s) && (!longest || s.size() > longest->size())) {
        longest = &s;
      }
    }
    if (longest != nullptr) return std::pair(end - longest->size(), *longest);
  }
  return std::nullopt;
}

std::string RandomText(size_t max_bytes, int num_letters, std::mt19937& random) {
  std::string text(1 + random() % max_bytes, 'a');
  for (char& c : text) c = static_cast<char>('a' + random() % num_letters);
  return text;
}

// Whatever the tokens: text and stop string are those of a search in the whole text, what has left
// before the end never has to be taken back, and nothing is held that could not matter.
TEST(AnswerStream, EqualsASearchInTheWholeTextOnRandomTokens) {
  std::mt19937 random(1);
  std::vector<std::string> pieces;
  for (const std::string a : {"a", "b", "c"}) {
    pieces.push_back(a);
    for (const std::string b : {"a", "b", "c"}) {
      pieces.push_back(a + b);
      for (const std::string c : {"a", "b", "c"}) pieces.push_back(a + b + c);
    }
  }
  const TestTokenizer tokenizer(pieces);
  for (int trial = 0; trial < 5000; ++trial) {
    StopRules rules;
    rules.max_new_tokens = 1 + static_cast<int>(random() % 20);
    rules.min_new_tokens = trial % 2 == 0 ? 0 : static_cast<int>(random() % rules.max_new_tokens);
    const int num_letters = 1 + static_cast<int>(random() % 3);
    for (int i = random() % 4; i >= 0; --i) {
      rules.stop_strings.push_back(RandomText(9, num_letters, random));
    }
    std::vector<int32_t> ids;
    std::string text;
    size_t min_end = 1;  // a stop string must be complete at this byte or behind it
    for (int i = 0; i < rules.max_new_tokens; ++i) {
      if (i + 1 == rules.min_new_tokens) min_end = text.size() + 1;
      const std::string piece = RandomText(3, num_letters, random);
      ids.push_back(tokenizer.Id(piece));
      text += piece;
    }
    const Outcome outcome = RunIds(rules, tokenizer.get(), ids);
    const auto stop = FirstStop(text, rules.stop_strings, min_end);
    ASSERT_TRUE(outcome.end.has_value());
    EXPECT_EQ(outcome.end->reason, stop ? EndReason::kStop : EndReason::kLength);
    EXPECT_EQ(outcome.end->stop_string, stop ? stop->second : "");
    ASSERT_EQ(outcome.text, stop ? text.substr(0, stop->first) : text) << "trial " << trial;
    EXPECT_EQ(outcome.released.size(), outcome.released_after.size()) << "all have left";

    // What may still become a stop string, after each token but the last.
    size_t num_bytes = 0;
    for (size_t n = 1; n < outcome.released_after.size(); ++n) {
      num_bytes += tokenizer.get()->TokenBytes(ids[n - 1]).size();
      size_t pending = 0;
      for (const std::string& s : rules.stop_strings) {
        for (size_t size = 1; size < s.size(); ++size) {
          if (text.substr(0, num_bytes).ends_with(s.substr(0, size))) {
            pending = std::max(pending, size);
          }
        }
      }
      size_t num_released = 0, end = 0;
      while (num_released < n) {
        end += tokenizer.get()->TokenBytes(ids[num_released]).size();
        if (end > num_bytes - pending) break;
        ++num_released;
      }
      EXPECT_EQ(outcome.released_after[n - 1], num_released) << "trial " << trial;
    }
  }
}

// The same text, cut into tokens in another way, stops at the same byte.
TEST(AnswerStream, StopsAtTheSameByteWhateverTheTokens) {
  absl::StatusOr<Tokenizer> bundled = Tokenizer::Open("models/abacus");
  ASSERT_TRUE(bundled.ok()) << bundled.status();
  const std::string text =
      "Seven plus five is twelve.\n\nQ: 57+68=? The answer is 125 €, and that is the end.\n";
  const auto bundled_ids = bundled->Encode(text, SpecialText::kPlain);
  ASSERT_TRUE(bundled_ids.ok());
  const TestTokenizer byte_by_byte({});
  std::vector<int32_t> byte_ids;
  for (const char c : text) byte_ids.push_back(static_cast<unsigned char>(c));
  for (size_t begin = 0; begin < text.size(); ++begin) {
    for (const size_t size : {1, 2, 5, 11}) {
      const StopRules rules = StopAt({text.substr(begin, size)});
      const std::string expected = text.substr(0, text.find(rules.stop_strings[0]));
      EXPECT_EQ(RunIds(rules, &*bundled, *bundled_ids).text, expected);
      EXPECT_EQ(RunIds(rules, byte_by_byte.get(), byte_ids).text, expected);
    }
  }
}

TEST(StopStringMatcher, HoldsFewerBytesThanTheLongestString) {
  const std::vector<std::string> strings = {"aaaa", "ab"};
  StopStringMatcher matcher(strings);
  for (int i = 0; i < 20; ++i) {
    const std::string* match = matcher.Append('a');
    EXPECT_EQ(match != nullptr, i >= 3);
    EXPECT_EQ(matcher.num_pending_bytes(), std::min(i + 1, 3));
  }
  matcher.Reset();
  EXPECT_EQ(matcher.num_pending_bytes(), 0);
  EXPECT_EQ(matcher.Append('b'), nullptr);
}

// --- Bad input ---

TEST(CheckStopRules, NamesFieldValueAndLimit) {
  const TestTokenizer tokenizer({});
  const auto message = [&](const StopRules& rules, const Tokenizer* tokenizer) {
    const absl::Status status = CheckStopRules(rules, 100, tokenizer);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  const auto with = [](auto change) {
    StopRules rules;
    rules.max_new_tokens = 8;
    change(rules);
    return rules;
  };
  const Tokenizer* known = tokenizer.get();
  EXPECT_EQ(message(with([](StopRules& r) { r.max_new_tokens = 0; }), known),
            "max_new_tokens is 0, it must be at least 1");
  EXPECT_EQ(message(with([](StopRules& r) { r.min_new_tokens = 9; }), known),
            "min_new_tokens is 9, it must be 0 to max_new_tokens, which is 8");
  EXPECT_THAT(message(with([](StopRules& r) { r.min_new_tokens = -1; }), known),
              HasSubstr("min_new_tokens is -1"));
  EXPECT_EQ(message(with([](StopRules& r) {
                      r.stop_ids = {1, 100};
                    }),
                    known),
            "stop_ids[1] is 100, outside the vocabulary 0..99");
  EXPECT_EQ(message(with([](StopRules& r) { r.stop_ids.assign(129, 1); }), known),
            "stop_ids has 129 ids, the limit is 128");
  EXPECT_EQ(message(with([](StopRules& r) { r.silent_ids = {100}; }), known),
            "silent_ids[0] is 100, outside the vocabulary 0..99");
  EXPECT_EQ(message(with([](StopRules& r) { r.silent_ids.assign(65, 1); }), known),
            "silent_ids has 65 ids, the limit is 64");
  EXPECT_EQ(message(with([](StopRules& r) {
                      r.stop_strings = {"a", ""};
                    }),
                    known),
            "stop[1] has 0 bytes, it must have 1 to 256");
  EXPECT_EQ(message(with([](StopRules& r) { r.stop_strings = {std::string(257, 'a')}; }), known),
            "stop[0] has 257 bytes, it must have 1 to 256");
  EXPECT_EQ(message(with([](StopRules& r) { r.stop_strings.assign(17, "a"); }), known),
            "stop has 17 strings, the limit is 16");
  EXPECT_THAT(message(with([](StopRules& r) { r.stop_strings = {"a"}; }), nullptr),
              HasSubstr("no tokenizer"));
}

TEST(CheckStopRules, TakesTheLimits) {
  const TestTokenizer tokenizer({});
  StopRules rules;
  rules.max_new_tokens = rules.min_new_tokens = 1;
  EXPECT_TRUE(CheckStopRules(rules, 100, nullptr).ok());
  rules.stop_ids.assign(kMaxStopIds, 99);
  rules.silent_ids.assign(kMaxSilentIds, 99);
  rules.stop_strings.assign(kMaxStopStrings, std::string(kMaxStopStringBytes, 'x'));
  EXPECT_TRUE(CheckStopRules(rules, 100, tokenizer.get()).ok());
}

}  // namespace
}  // namespace orrery
