#include "services/attention/answer_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "services/attention/answer_stream_fixture.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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
