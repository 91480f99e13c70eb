#include "tools/chaos/questions.h"

#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

Answer SomeAnswer() {
  Answer answer;
  answer.started.set_seed(7);
  answer.started.set_prompt_tokens(3);
  answer.ids = {5, 6};
  answer.logprobs = {-0.5f, -0.25f};
  answer.content = "ab";
  answer.finished.mutable_usage()->set_output_tokens(2);
  return answer;
}

TEST(Questions, AreRepeatedByZipf) {
  std::vector<Question> questions(6);
  for (int i = 0; i < 6; ++i) questions[i].request.set_seed(i);
  std::map<uint64_t, int> num_times;
  for (const Question& question : RepeatedByZipf(questions)) ++num_times[question.request.seed()];
  EXPECT_THAT(num_times,
              testing::ElementsAre(testing::Pair(0, 6), testing::Pair(1, 3), testing::Pair(2, 2),
                                   testing::Pair(3, 1), testing::Pair(4, 1), testing::Pair(5, 1)));
}

TEST(Questions, AreTheSameForOneSeedAndOfManyKinds) {
  const auto requests = MakeRequests(3, 24);
  const auto again = MakeRequests(3, 24);
  const auto others = MakeRequests(1000, 24);
  std::set<std::string> kinds;
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(requests[i].SerializeAsString(), again[i].SerializeAsString());
    EXPECT_NE(requests[i].SerializeAsString(), others[i].SerializeAsString());
    EXPECT_TRUE(requests[i].logprobs());
    EXPECT_TRUE(requests[i].has_seed());
    if (requests[i].temperature() == 0.0f) kinds.insert("greedy");
    if (requests[i].temperature() > 0.0f) kinds.insert("drawn");
    if (requests[i].repetition_penalty() > 0.0f) kinds.insert("penalties");
    if (requests[i].num_choices() > 1) kinds.insert("choices");
    if (requests[i].num_top_logprobs() > 0) kinds.insert("alternatives");
    if (requests[i].stop_size() > 0) kinds.insert("stop");
    if (requests[i].text().size() > 500) kinds.insert("long");
  }
  EXPECT_EQ(kinds.size(), 7u);
}

TEST(Difference, IsNoneForTheSameAnswer) {
  EXPECT_THAT(Difference(SomeAnswer(), SomeAnswer()), IsEmpty());
  // What was cached says where it ran, not what it said.
  Answer cached = SomeAnswer();
  cached.finished.mutable_usage()->set_cached_prompt_tokens(2);
  EXPECT_THAT(Difference(SomeAnswer(), cached), IsEmpty());
}

TEST(Difference, NamesWhatDiffers) {
  const auto with = [](auto change) {
    Answer answer = SomeAnswer();
    change(answer);
    return Difference(SomeAnswer(), answer);
  };
  EXPECT_THAT(with([](Answer& a) { a.ids[1] = 9; }), HasSubstr("token 1 is 9, not 6"));
  EXPECT_THAT(with([](Answer& a) { a.logprobs[0] = -0.75f; }), HasSubstr("log-probability"));
  EXPECT_THAT(with([](Answer& a) {
                a.ids.pop_back();
                a.logprobs.pop_back();
              }),
              HasSubstr("1 tokens, not 2"));
  EXPECT_THAT(with([](Answer& a) { a.content = "ac"; }), HasSubstr("content"));
  EXPECT_THAT(with([](Answer& a) { a.others.emplace_back(); }), HasSubstr("2 choices, not 1"));
  EXPECT_THAT(with([](Answer& a) { a.started.set_seed(8); }), HasSubstr("seed"));
  EXPECT_THAT(with([](Answer& a) { a.finished.mutable_usage()->set_output_tokens(3); }),
              HasSubstr("usage"));
}

}  // namespace
}  // namespace orrery
