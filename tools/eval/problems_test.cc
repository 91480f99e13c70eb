#include "tools/eval/problems.h"

#include <string>

#include "checkpoint/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const char kGood[] =
    R"({"id": 7, "messages": [{"role": "user", "content": "2+2?"}], "answer": "4"})";

absl::StatusOr<std::vector<Problem>> Read(const std::string& text) {
  return ReadProblems(WriteTempFile(MakeTempDir(), "problems.jsonl", text));
}

TEST(ReadProblems, ReadsTheBundledFile) {
  const auto problems = ReadProblems("models/abacus/eval.jsonl");
  ASSERT_TRUE(problems.ok()) << problems.status();
  EXPECT_GE(problems->size(), 1000u);
  EXPECT_FALSE(problems->front().reference_ids.empty());
}

TEST(ReadProblems, ReadsEveryField) {
  const auto problems = Read(
      R"({"id": "p-1", "family": "mul", "messages": [{"role": "system", "content": "s"},)"
      R"( {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}],)"
      R"( "answer": "6", "prompt_ids": [0, 5], "reference_ids": [9, 1], "min_top2_gap": 0.25})");
  ASSERT_TRUE(problems.ok()) << problems.status();
  const Problem& problem = problems->at(0);
  EXPECT_EQ(problem.id, "p-1");
  EXPECT_EQ(problem.family, "mul");
  ASSERT_EQ(problem.messages.size(), 3u);
  EXPECT_EQ(problem.messages[0].role, ChatMessage::Role::kSystem);
  EXPECT_EQ(problem.messages[2].content, "a");
  EXPECT_EQ(problem.answer, "6");
  EXPECT_THAT(problem.prompt_ids, ElementsAre(0, 5));
  EXPECT_THAT(problem.reference_ids, ElementsAre(9, 1));
  EXPECT_EQ(problem.min_top2_gap, 0.25);
}

TEST(ReadProblems, FamilyAndReferenceAreOptionalAndAReferenceWithoutGapIsClear) {
  const auto problems = Read(kGood);
  ASSERT_TRUE(problems.ok()) << problems.status();
  EXPECT_EQ(problems->at(0).id, "7");
  EXPECT_EQ(problems->at(0).family, "all");
  EXPECT_TRUE(problems->at(0).reference_ids.empty());
  EXPECT_GT(problems->at(0).min_top2_gap, 1.0);
}

TEST(ReadProblems, SkipsEmptyLinesAndStillCountsThem) {
  EXPECT_EQ(Read(std::string(kGood) + "\n\n" + kGood + "\n")->size(), 2u);
  const auto problems = Read(std::string("\n") + kGood + "\n\n{\n");
  EXPECT_THAT(std::string(problems.status().message()), HasSubstr("problems.jsonl:4: "));
}

TEST(ReadProblems, NamesTheLineAndWhatIsWrongWithIt) {
  const struct {
    const char* line;
    const char* what;
  } kCases[] = {
      {"not json", "parse error"},
      {"[]", "type"},
      {R"({"messages": [], "answer": "4"})", "id"},
      {R"({"id": 1, "messages": []})", "answer"},
      {R"({"id": 1, "answer": "4"})", "messages"},
      {R"({"id": 1, "messages": [{"role": "user"}], "answer": "4"})", "content"},
      {R"({"id": 1, "messages": [{"role": "tool", "content": ""}], "answer": "4"})",
       "role \"tool\" must be system, user or assistant"},
      {R"({"id": 1, "messages": [], "answer": 4})", "string"},
      {R"({"id": 1, "messages": [], "answer": "4", "reference_ids": "x"})", "array"},
      {"{\"id\": 1, \"answer\": \"\xff\"}", "UTF-8"},
  };
  for (const auto& wrong : kCases) {
    const auto problems = Read(std::string(kGood) + "\n" + wrong.line + "\n" + kGood + "\n");
    EXPECT_EQ(problems.status().code(), absl::StatusCode::kInvalidArgument) << wrong.line;
    EXPECT_THAT(std::string(problems.status().message()),
                AllOf(HasSubstr("problems.jsonl:2: "), HasSubstr(wrong.what)));
  }
}

TEST(ReadProblems, AFileThatIsMissingOrEmptyIsNamed) {
  const auto missing = ReadProblems("no/such/file.jsonl");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("no/such/file.jsonl"));
  for (const char* text : {"", "\n\n"}) {
    const auto empty = Read(text);
    EXPECT_EQ(empty.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(empty.status().message()), HasSubstr("holds no problem"));
  }
}

}  // namespace
}  // namespace orrery
