#include "services/router/delta_splitter.h"

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "services/router/tiny_model.h"

namespace orrery {
namespace {

constexpr char kReplacement[] = "\xef\xbf\xbd";

class DeltaSplitterTest : public ::testing::Test {
 protected:
  // The whole answer, as (reasoning, content); checks that there is one delta per token.
  std::pair<std::string, std::string> Split(const std::vector<int32_t>& ids,
                                            bool starts_in_thinking) {
    DeltaSplitter splitter(&model_.tokenizer, model_.markers, {kTinyEos}, starts_in_thinking);
    std::pair<std::string, std::string> texts;
    for (size_t i = 0; i < ids.size(); ++i) {
      const SplitDelta delta = splitter.Append(ids[i], i + 1 == ids.size());
      (delta.kind == v1::DELTA_KIND_REASONING ? texts.first : texts.second) += delta.text;
    }
    num_reasoning_ = splitter.num_reasoning_tokens();
    return texts;
  }
  std::vector<int32_t> Concat(const std::vector<std::vector<int32_t>>& parts) {
    std::vector<int32_t> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  }
  using Texts = std::pair<std::string, std::string>;

  const ServedModel model_ = MakeTinyModel();
  int num_reasoning_ = 0;
};

TEST_F(DeltaSplitterTest, SplitsAtTheMarkerAndKeepsWhiteSpace) {
  const auto ids = Concat({TinyIds("7+8\n"), {kTinyEndThink}, TinyIds("\n15"), {kTinyEos}});
  EXPECT_EQ(Split(ids, true), Texts("7+8\n", "\n15"));
  EXPECT_EQ(num_reasoning_, 5);
}

TEST_F(DeltaSplitterTest, StartsInContentWhenThePromptDidNotOpenTheThinking) {
  const auto ids =
      Concat({TinyIds("a"), {kTinyThink}, TinyIds("b"), {kTinyEndThink}, TinyIds("c")});
  EXPECT_EQ(Split(ids, false), Texts("b", "ac"));
  EXPECT_EQ(num_reasoning_, 3);
}

TEST_F(DeltaSplitterTest, LeavesLettersOfAMarkerAlone) {
  EXPECT_EQ(Split(TinyIds("x</think>y"), true), Texts("x</think>y", ""));
}

TEST_F(DeltaSplitterTest, HoldsAnUnfinishedCharacterBackUntilItIsWhole) {
  DeltaSplitter splitter(&model_.tokenizer, model_.markers, {kTinyEos}, false);
  const std::vector<int32_t> ids = TinyIds("€");
  EXPECT_EQ(splitter.Append(ids[0], false).text, "");
  EXPECT_EQ(splitter.Append(ids[1], false).text, "");
  EXPECT_EQ(splitter.Append(ids[2], false).text, "€");
}

TEST_F(DeltaSplitterTest, FlushesAnUnfinishedCharacterWhereItWasWritten) {
  const int32_t half = TinyByteId(0xe2);
  EXPECT_EQ(Split({half, kTinyEndThink, TinyByteId('a')}, true), Texts(kReplacement, "a"));
  EXPECT_EQ(Split({half, kTinyThink, TinyByteId('a')}, false), Texts("a", kReplacement));
  EXPECT_EQ(Split({half, kTinyEos}, false), Texts("", kReplacement));
  EXPECT_EQ(Split({TinyByteId('a'), half}, false), Texts("", std::string("a") + kReplacement));
}

TEST_F(DeltaSplitterTest, ACharacterDoesNotContinueBehindAMarker) {
  const std::vector<int32_t> euro = TinyIds("€");
  const auto texts = Split({euro[0], euro[1], kTinyEndThink, euro[2]}, true);
  EXPECT_EQ(texts, Texts(kReplacement, kReplacement));
}

TEST_F(DeltaSplitterTest, TakesOnlyTheBytesThatAStopStringLeft) {
  DeltaSplitter splitter(&model_.tokenizer, model_.markers, {kTinyEos}, false);
  EXPECT_EQ(splitter.Append(TinyByteId('a'), false, 1).text, "a");
  EXPECT_EQ(splitter.Append(TinyByteId('b'), false, 0).text, "");
  EXPECT_EQ(splitter.Append(TinyByteId('c'), true, 0).text, "");
}

TEST_F(DeltaSplitterTest, FlushesAnUnfinishedCharacterWhereAStopStringCuts) {
  DeltaSplitter splitter(&model_.tokenizer, model_.markers, {kTinyEos}, false);
  EXPECT_EQ(splitter.Append(TinyByteId(0xe2), false).text, "");
  EXPECT_EQ(splitter.Append(TinyByteId('x'), false, 0).text, kReplacement);
  EXPECT_EQ(splitter.Append(TinyByteId('y'), false, 0).text, "");
}

TEST_F(DeltaSplitterTest, MarkersAndSpecialTokensHaveNoTextHoweverTheyAreCut) {
  DeltaSplitter splitter(&model_.tokenizer, model_.markers, {kTinyEos}, true);
  EXPECT_EQ(splitter.Append(kTinyUser, false, 3).text, "");
  EXPECT_EQ(splitter.Append(kTinyEndThink, false, 2).text, "");
  EXPECT_EQ(splitter.Append(TinyByteId('z'), false, -1).text, "");
  EXPECT_EQ(splitter.Append(TinyByteId('z'), false, 99).text, "z");
}

TEST_F(DeltaSplitterTest, KnowsNoThinkingWhenTheTokenizerHasNoMarkers) {
  const ServedModel plain = MakeTinyModel({.has_thinking = false});
  DeltaSplitter splitter(&plain.tokenizer, plain.markers, {kTinyEos}, false);
  EXPECT_EQ(splitter.Append(TinyByteId('a'), false).kind, v1::DELTA_KIND_CONTENT);
  EXPECT_EQ(splitter.num_reasoning_tokens(), 0);
}

}  // namespace
}  // namespace orrery
