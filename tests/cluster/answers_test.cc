// A cluster of real processes answers, the same whatever its shape.
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/cluster_test_util.h"
#include "tools/answer_printer.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

Answer Ask(OrreryClient& client, const v1::GenerateRequest& request) {
  const auto answer = client.Generate(request, kPatience);
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer.ok() ? *answer : Answer{};
}

v1::GenerateRequest Question(const Problem& problem) {
  v1::GenerateRequest request;
  *request.mutable_messages() = problem.messages;
  request.set_logprobs(true);
  return request;
}

// Bit for bit: equal numbers may differ in their sign of zero or their NaN.
std::string Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

TEST(ClusterAnswers, SolvesProblemsExactlyAsTheReferenceInF32) {
  const auto cluster = StartReady(AbacusTopology(2, 4, internal::PRECISION_F32));
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  for (const Problem& problem : ReadProblems(6)) {
    const Answer answer = Ask(client, Question(problem));
    EXPECT_EQ(answer.ids, problem.reference_ids);
    EXPECT_EQ(TrimmedContent(answer.content), problem.answer);
    EXPECT_EQ(answer.started.prompt_tokens(), problem.prompt_ids.size());
    EXPECT_EQ(answer.finished.reason(), v1::FINISH_REASON_STOP);
    EXPECT_EQ(answer.finished.usage().output_tokens(), answer.ids.size());
    EXPECT_FALSE(answer.reasoning.empty());
    EXPECT_EQ(answer.reasoning.back(), '\n');
  }
}

TEST(ClusterAnswers, AreBitIdenticalForEveryNumberOfRanksAndShards) {
  const std::vector<Problem> problems = ReadProblems(4);
  std::vector<Answer> first;
  for (const auto& [num_ranks, num_shards] : {std::pair{1, 1}, {2, 4}, {1, 5}}) {
    const auto cluster = StartReady(AbacusTopology(num_ranks, num_shards));
    ASSERT_NE(cluster, nullptr);
    OrreryClient client = Connect(*cluster);
    std::vector<Answer> answers;
    for (const Problem& problem : problems) {
      answers.push_back(Ask(client, Question(problem)));
      v1::GenerateRequest sampled = Question(problem);
      sampled.set_temperature(1.3f);
      sampled.set_seed(12345);
      sampled.set_max_new_tokens(40);
      answers.push_back(Ask(client, sampled));
    }
    if (first.empty()) first = answers;
    for (size_t i = 0; i < answers.size(); ++i) {
      EXPECT_EQ(answers[i].ids, first[i].ids) << num_ranks << " ranks, " << num_shards << " shards";
      EXPECT_EQ(Bytes(answers[i].logprobs), Bytes(first[i].logprobs))
          << num_ranks << " ranks, " << num_shards << " shards, answer " << i;
    }
  }
}

TEST(ClusterAnswers, TokenizesAsTheModelsOwnTools) {
  const auto cluster = StartReady(AbacusTopology(1, 1));
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  for (const Problem& problem : ReadProblems(10)) {
    v1::TokenizeRequest request;
    *request.mutable_messages() = problem.messages;
    const auto ids = client.Tokenize(request);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, problem.prompt_ids);
  }
}

TEST(ClusterAnswers, WrongInputGetsAClearErrorAndTheClusterGoesOn) {
  const auto cluster = StartReady(AbacusTopology(1, 2));
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  const auto error_of = [&](const v1::GenerateRequest& request, absl::StatusCode code) {
    const auto answer = client.Generate(request, kPatience);
    EXPECT_EQ(answer.status().code(), code) << answer.status();
    return std::string(answer.status().message());
  };
  v1::GenerateRequest request;
  EXPECT_THAT(error_of(request, absl::StatusCode::kInvalidArgument), HasSubstr("no prompt"));
  request.set_text("");
  EXPECT_THAT(error_of(request, absl::StatusCode::kInvalidArgument), HasSubstr("empty"));
  request.set_text("\xff");
  EXPECT_THAT(error_of(request, absl::StatusCode::kInvalidArgument), HasSubstr("UTF-8"));
  request.set_text(std::string(5000, '7'));
  EXPECT_THAT(error_of(request, absl::StatusCode::kInvalidArgument),
              ::testing::AllOf(HasSubstr("5000"), HasSubstr("4096")));
  request.set_text("1+1");
  request.set_model("gauss");
  EXPECT_THAT(error_of(request, absl::StatusCode::kNotFound), HasSubstr("\"abacus\""));
  request.set_model("abacus");
  request.mutable_ids()->add_id(768);
  EXPECT_THAT(error_of(request, absl::StatusCode::kInvalidArgument), HasSubstr("768"));
  const Problem problem = ReadProblems(1)[0];
  request.mutable_ids()->mutable_id()->Assign(problem.prompt_ids.begin(), problem.prompt_ids.end());
  request.set_max_new_tokens(3);
  EXPECT_EQ(Ask(client, request).ids.size(), 3);
}

TEST(ClusterAnswers, ACancelledAnswerFreesItsRank) {
  const auto cluster = StartReady(AbacusTopology(1, 1));
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  v1::GenerateRequest endless;
  endless.set_text("7");
  const auto cancelled =
      client.Generate(endless, kPatience, [](const v1::Delta&) { return false; });
  EXPECT_EQ(cancelled.status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(Ask(client, Question(ReadProblems(1)[0])).content.empty());
}

}  // namespace
}  // namespace orrery
