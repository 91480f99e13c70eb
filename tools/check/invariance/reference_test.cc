#include "tools/check/invariance/reference.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Setting kGreedyPlain = {};
const Setting kSeededPlain = {.sampling = Setting::kSeeded};
const Setting kSeededChoices = {.sampling = Setting::kSeeded, .n = 3};

// One answer whose choice i is the single token ids[i].
AnswerRecord Answer(const std::vector<int32_t>& ids) {
  AnswerRecord answer;
  for (int32_t id : ids) {
    ChoiceRecord& choice = answer.choices.emplace_back();
    choice.tokens.emplace_back().token = {.id = id, .logprob = -1.0f};
    choice.end.num_tokens = 1;
  }
  return answer;
}

// Requests 0 and 1: greedy 10 and 11, seeded 20 and 21, choices 1 and 2 of seeded 30..33.
Reference TwoRequests() {
  Reference reference;
  EXPECT_TRUE(reference.Add(kGreedyPlain, {Answer({10}), Answer({11})}).ok());
  EXPECT_TRUE(reference.Add(kSeededPlain, {Answer({20}), Answer({21})}).ok());
  EXPECT_TRUE(reference.Add(kSeededChoices, {Answer({20, 30, 31}), Answer({21, 32, 33})}).ok());
  return reference;
}

TEST(Reference, EveryGreedyChoiceIsTheAnswerOfOne) {
  const Reference reference = TwoRequests();
  EXPECT_THAT(reference.Compare({.n = 3}, {Answer({10, 10, 10}), Answer({11, 11, 11})}), IsEmpty());
  EXPECT_THAT(reference.Compare({.n = 3}, {Answer({10, 10, 10}), Answer({11, 11, 10})}),
              ElementsAre(HasSubstr("request 1, choice 2, token 0: id 10")));
}

TEST(Reference, SeededChoicesAreTheirOwnButTheFirst) {
  const Reference reference = TwoRequests();
  const Setting setting = {.batch = 64, .sampling = Setting::kSeeded, .n = 3};
  EXPECT_THAT(reference.Compare(setting, {Answer({20, 30, 31}), Answer({21, 32, 33})}), IsEmpty());
  EXPECT_THAT(reference.Compare(setting, {Answer({20, 31, 30}), Answer({30, 32, 33})}),
              ElementsAre(HasSubstr("request 0, choice 1"), HasSubstr("request 1, choice 0")));
}

TEST(Reference, OfMixedRequestsEveryOtherIsSeeded) {
  const Reference reference = TwoRequests();
  const Setting setting = {.sampling = Setting::kMixed};
  EXPECT_THAT(reference.Compare(setting, {Answer({10}), Answer({21})}), IsEmpty());
  EXPECT_EQ(reference.Compare(setting, {Answer({20}), Answer({11})}).size(), 2u);
}

TEST(Reference, ARequestThatFailedDiffers) {
  const Reference reference = TwoRequests();
  EXPECT_THAT(reference.Compare({}, {absl::UnavailableError("no holder"), Answer({11})}),
              ElementsAre(HasSubstr("request 0: UNAVAILABLE: no holder")));
  Reference other;
  EXPECT_EQ(other.Add(kGreedyPlain, {absl::UnavailableError("no holder")}).code(),
            absl::StatusCode::kUnavailable);
}

TEST(Reference, TheRunOfThreeChoicesIsItselfComparedWithTheRunOfOne) {
  Reference reference;
  ASSERT_TRUE(reference.Add(kSeededPlain, {Answer({20})}).ok());
  EXPECT_THAT(reference.Compare(kSeededChoices, {Answer({20, 30, 31})}), IsEmpty());
  EXPECT_THAT(reference.Compare(kSeededChoices, {Answer({30, 30, 31})}),
              ElementsAre(HasSubstr("choice 0")));
}

TEST(Reference, NeedsOnlyThePlainRunsThatSomethingIsComparedWith) {
  EXPECT_THAT(Reference::PlainSettings({{.batch = 64, .n = 3}}), ElementsAre(kGreedyPlain));
  EXPECT_THAT(Reference::PlainSettings({kSeededPlain}), ElementsAre(kSeededPlain));
  EXPECT_THAT(Reference::PlainSettings({{.sampling = Setting::kMixed, .n = 3}}),
              ElementsAre(kGreedyPlain, kSeededPlain, kSeededChoices));
  EXPECT_THAT(Reference::PlainSettings({}), IsEmpty());
}

}  // namespace
}  // namespace orrery
