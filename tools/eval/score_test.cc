#include "tools/eval/score.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Problem MakeProblem(const std::string& id = "p", const std::string& family = "add") {
  Problem problem;
  problem.id = id;
  problem.family = family;
  problem.answer = "4";
  problem.prompt_ids = {0, 5};
  problem.reference_ids = {9, 8, 1};
  return problem;
}

ExamAnswer RightAnswer() {
  return {.prompt_ids = {0, 5},
          .ids = {9, 8, 1},
          .logprobs = {-0.5f, -0.25f, -0.125f},
          .content = "4",
          .is_finished = true};
}

TEST(Scores, CountsARightAnswerWithTheReferencesIds) {
  Scores scores;
  scores.Add(MakeProblem(), RightAnswer());
  const FamilyScore total = scores.total();
  EXPECT_EQ(total.num_problems, 1);
  EXPECT_EQ(total.num_right, 1);
  EXPECT_EQ(total.num_with_reference, 1);
  EXPECT_EQ(total.num_same_ids, 1);
  EXPECT_TRUE(scores.agrees());
}

TEST(Scores, AnAnswerThatDidNotEndByItselfIsNotRight) {
  ExamAnswer answer = RightAnswer();
  answer.is_finished = false;
  Scores scores;
  scores.Add(MakeProblem(), answer);
  EXPECT_EQ(scores.total().num_right, 0);
}

TEST(Scores, RightAndAgreeingAreTwoThings) {
  ExamAnswer other_way = RightAnswer();
  other_way.ids = {7, 1};
  ExamAnswer wrong = RightAnswer();
  wrong.content = "5";
  Scores scores;
  scores.Add(MakeProblem("a"), other_way);
  scores.Add(MakeProblem("b"), wrong);
  EXPECT_EQ(scores.total().num_right, 1);
  EXPECT_EQ(scores.total().num_same_ids, 1);
  EXPECT_FALSE(scores.agrees());
  EXPECT_THAT(scores.ToString(),
              AllOf(HasSubstr("problem a (add): other ids"), Not(HasSubstr("problem b"))));
}

// Where the reference itself wavers between two tokens, either is fine.
TEST(Scores, AReferenceWithoutAClearGapIsNotCompared) {
  ExamAnswer other = RightAnswer();
  other.ids = {7, 1};
  for (const double gap : {0.0, kClearGap}) {
    Problem problem = MakeProblem();
    problem.min_top2_gap = gap;
    Scores scores;
    scores.Add(problem, other);
    EXPECT_EQ(scores.total().num_with_reference, 0);
    EXPECT_TRUE(scores.agrees());
  }
  Problem clear = MakeProblem();
  clear.min_top2_gap = 1.5 * kClearGap;
  Scores scores;
  scores.Add(clear, other);
  EXPECT_FALSE(scores.agrees());
}

TEST(Scores, AnotherPromptIsADisagreementEvenWithoutReference) {
  Problem problem = MakeProblem();
  problem.reference_ids.clear();
  ExamAnswer answer = RightAnswer();
  answer.prompt_ids = {5};
  Scores scores;
  scores.Add(problem, answer);
  EXPECT_EQ(scores.num_wrong_prompts(), 1);
  EXPECT_FALSE(scores.agrees());
  EXPECT_THAT(scores.ToString(), HasSubstr("problem p: the prompt has other ids"));
}

TEST(Scores, AFileWithoutPromptsAndReferencesAgreesWithAnything) {
  Problem problem = MakeProblem();
  problem.prompt_ids.clear();
  problem.reference_ids.clear();
  Scores scores;
  scores.Add(problem, {});
  EXPECT_TRUE(scores.agrees());
  EXPECT_EQ(scores.total().num_right, 0);
}

TEST(Scores, FamiliesAreCountedApartAndAddUp) {
  Scores scores;
  scores.Add(MakeProblem("1", "add"), RightAnswer());
  scores.Add(MakeProblem("2", "mul"), RightAnswer());
  scores.Add(MakeProblem("3", "mul"), {});
  EXPECT_EQ(scores.families().at("add").num_problems, 1);
  EXPECT_EQ(scores.families().at("mul").num_problems, 2);
  EXPECT_EQ(scores.families().at("mul").num_right, 1);
  EXPECT_EQ(scores.total().num_problems, 3);
  EXPECT_THAT(scores.ToString(), AllOf(HasSubstr("add"), HasSubstr("mul"), HasSubstr("66.67 %")));
}

TEST(Scores, TheDigestSeesEveryIdEveryBitAndTheOrder) {
  const auto digest = [](const std::vector<ExamAnswer>& answers) {
    Scores scores;
    for (const ExamAnswer& answer : answers) scores.Add(MakeProblem(), answer);
    return scores.Digest();
  };
  const ExamAnswer answer = RightAnswer();
  ExamAnswer other_id = answer, other_bit = answer;
  other_id.ids[1] = 7;
  other_bit.logprobs[2] = -0.125000015f;
  EXPECT_EQ(digest({answer}), digest({answer}));
  EXPECT_NE(digest({answer}), digest({other_id}));
  EXPECT_NE(digest({answer}), digest({other_bit}));
  EXPECT_NE(digest({answer, other_id}), digest({other_id, answer}));
}

// Equal bytes in a row, cut into two answers at different places.
TEST(Scores, TheDigestSeesWhereOneAnswerEndsAndTheNextBegins) {
  const auto digest = [](const std::vector<std::vector<int32_t>>& ids_of_answers) {
    Scores scores;
    for (const std::vector<int32_t>& ids : ids_of_answers) {
      ExamAnswer answer;
      answer.ids = ids;
      scores.Add(MakeProblem(), answer);
    }
    return scores.Digest();
  };
  EXPECT_NE(digest({{1, 2}, {3}}), digest({{1}, {2, 3}}));
}

TEST(Scores, ShowsOnlyTheFirstFewThatDiffer) {
  ExamAnswer answer = RightAnswer();
  answer.ids = {7, 1};
  Scores scores;
  for (int i = 0; i < 25; ++i) scores.Add(MakeProblem(absl::StrCat("p", i)), answer);
  EXPECT_THAT(scores.ToString(), AllOf(HasSubstr("problem p9 "), Not(HasSubstr("problem p10 ")),
                                       HasSubstr("and 15 more differ")));
}

TEST(Scores, WithoutAnyProblemItPrintsZerosAndAgrees) {
  const Scores scores;
  EXPECT_TRUE(scores.agrees());
  EXPECT_THAT(scores.ToString(), HasSubstr("0.00 %"));
}

}  // namespace
}  // namespace orrery
