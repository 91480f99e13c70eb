#include "tools/check/invariance/answer_record.h"

#include <cmath>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Minutes(1);

OutputToken Token(int choice, int32_t id, float logprob = -0.5f) {
  OutputToken token;
  token.choice = choice;
  token.token = {.id = id, .logprob = logprob};
  return token;
}
ChoiceEnd End(int choice, int num_tokens) {
  ChoiceEnd end;
  end.choice = choice;
  end.num_tokens = num_tokens;
  end.drafted_tokens = 5;
  end.accepted_tokens = 2;
  return end;
}

TEST(RecordAnswer, SortsTheEventsOfAllChoicesAndCountsDrafts) {
  Outbox outbox;
  outbox.Push({Token(1, 10), Token(0, 20)});
  outbox.Push({Token(1, 11), End(1, 2), End(0, 1)});
  outbox.Finish(absl::OkStatus());
  const auto answer = RecordAnswer(outbox, 2, kPatience);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->choices.size(), 2u);
  ASSERT_EQ(answer->choices[1].tokens.size(), 2u);
  EXPECT_EQ(answer->choices[1].tokens[1].token.id, 11);
  EXPECT_EQ(answer->choices[0].tokens[0].token.id, 20);
  EXPECT_EQ(answer->num_drafted, 10);
  EXPECT_EQ(answer->num_accepted, 4);
}

TEST(RecordAnswer, TellsOnceThatTheAnswerHasBegun) {
  Outbox outbox;
  int num_calls = 0;
  outbox.Push({Token(0, 10)});
  const auto answer = RecordAnswer(outbox, 1, kPatience, [&] {
    ++num_calls;
    outbox.Push({Token(0, 11), End(0, 2)});
    outbox.Finish(absl::OkStatus());
  });
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->choices[0].tokens.size(), 2u);
  EXPECT_EQ(num_calls, 1);
}

TEST(RecordAnswer, PassesTheRequestsOwnErrorOn) {
  Outbox outbox;
  outbox.Push({Token(0, 10)});
  outbox.Finish(absl::UnavailableError("no holder"));
  EXPECT_EQ(RecordAnswer(outbox, 1, kPatience).status(), absl::UnavailableError("no holder"));
}

TEST(RecordAnswer, CancelsWhatBringsNothingInTime) {
  Outbox outbox;
  EXPECT_EQ(RecordAnswer(outbox, 1, absl::ZeroDuration()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(outbox.cancelled());
}

TEST(RecordAnswer, EventsThatMakeNoAnswerAreAnInternalError) {
  Outbox open, twice, unknown;
  open.Push({Token(0, 10), End(0, 1)});
  open.Finish(absl::OkStatus());
  EXPECT_EQ(RecordAnswer(open, 2, kPatience).status().code(), absl::StatusCode::kInternal);
  twice.Push({End(0, 0), Token(0, 10)});
  twice.Finish(absl::OkStatus());
  EXPECT_EQ(RecordAnswer(twice, 1, kPatience).status().code(), absl::StatusCode::kInternal);
  unknown.Push({Token(3, 10)});
  unknown.Finish(absl::OkStatus());
  EXPECT_EQ(RecordAnswer(unknown, 3, kPatience).status().code(), absl::StatusCode::kInternal);
}

ChoiceRecord Record() {
  ChoiceRecord record;
  record.tokens = {Token(0, 10), Token(0, 11), Token(0, 12)};
  record.tokens[1].top = {{.id = 11, .logprob = -0.5f}, {.id = 3, .logprob = -2.0f}};
  record.end.num_tokens = 3;
  return record;
}

TEST(FirstDifference, IsEmptyForEqualBitsWhateverTheChoiceAndTheCountersSay) {
  ChoiceRecord other = Record();
  for (OutputToken& token : other.tokens) token.choice = 2;
  other.end.cached_tokens = 64;
  other.end.drafted_tokens = 7;
  EXPECT_EQ(FirstDifference(other, Record()), "");
  ChoiceRecord nan = Record();
  nan.tokens[0].token.logprob = std::nanf("");
  EXPECT_EQ(FirstDifference(nan, nan), "");
}

TEST(FirstDifference, SeesOneBitInALogProbability) {
  ChoiceRecord other = Record();
  other.tokens[1].token.logprob = std::nextafter(-0.5f, 0.0f);
  EXPECT_THAT(FirstDifference(other, Record()),
              AllOf(HasSubstr("token 1: id 11"), HasSubstr("0xbeffffff"), HasSubstr("0xbf000000")));
  other = Record();
  other.tokens[1].top[1].logprob = std::nextafter(-2.0f, 0.0f);
  EXPECT_THAT(FirstDifference(other, Record()), HasSubstr("token 1: 2 top:"));
  ChoiceRecord minus = Record(), plus = Record();
  minus.tokens[0].token.logprob = -0.0f;
  plus.tokens[0].token.logprob = 0.0f;
  EXPECT_NE(FirstDifference(minus, plus), "");
}

TEST(FirstDifference, SeesIdsLengthsCutsAndEnds) {
  ChoiceRecord other = Record();
  other.tokens[2].token.id = 13;
  EXPECT_THAT(FirstDifference(other, Record()), HasSubstr("token 2: id 13"));
  other = Record();
  other.tokens.pop_back();
  EXPECT_THAT(FirstDifference(other, Record()), HasSubstr("2 tokens, expected 3"));
  other = Record();
  other.tokens[2].text_bytes = 0;
  EXPECT_THAT(FirstDifference(other, Record()), HasSubstr("cut at 0"));
  other = Record();
  other.end.end.reason = EndReason::kStop;
  EXPECT_THAT(FirstDifference(other, Record()), HasSubstr("end: stop"));
  other = Record();
  other.tokens[1].top.clear();
  EXPECT_THAT(FirstDifference(other, Record()), HasSubstr("token 1: 0 top"));
}

}  // namespace
}  // namespace orrery
