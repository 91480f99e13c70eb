#include "tools/flags/command_line.h"

#include <string>

#include "absl/flags/flag.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

ABSL_FLAG(int, test_count, 3, "how many");
ABSL_FLAG(bool, test_loud, false, "whether to shout");
ABSL_FLAG(std::string, test_word, "", "what to say");

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CommandLineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::SetFlag(&FLAGS_test_count, 3);
    absl::SetFlag(&FLAGS_test_loud, false);
    absl::SetFlag(&FLAGS_test_word, "");
  }
  static std::string ErrorOf(const std::vector<std::string>& arguments) {
    const auto rest = ParseFlags(arguments, {"tools/flags/command_line_test.cc"});
    EXPECT_EQ(rest.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(rest.status().message());
  }
  const std::vector<std::string> files_ = {"tools/flags/command_line_test.cc"};
};

TEST_F(CommandLineTest, TakesValuesWithAndWithoutEqualsSign) {
  const auto rest =
      ParseFlags({"a", "--test_count=5", "--test_word", "x=y", "--test_loud", "b"}, files_);
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_THAT(*rest, ElementsAre("a", "b"));
  EXPECT_EQ(absl::GetFlag(FLAGS_test_count), 5);
  EXPECT_EQ(absl::GetFlag(FLAGS_test_word), "x=y");
  EXPECT_TRUE(absl::GetFlag(FLAGS_test_loud));
}

TEST_F(CommandLineTest, SwitchesBooleansOffAndStopsAtTwoDashes) {
  absl::SetFlag(&FLAGS_test_loud, true);
  const auto rest = ParseFlags({"--notest_loud", "-", "--", "--test_count=9"}, files_);
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_THAT(*rest, ElementsAre("-", "--test_count=9"));
  EXPECT_FALSE(absl::GetFlag(FLAGS_test_loud));
  EXPECT_EQ(absl::GetFlag(FLAGS_test_count), 3);
}

TEST_F(CommandLineTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(ErrorOf({"--tset_count=5"}), "unknown flag --tset_count=5");
  EXPECT_EQ(ErrorOf({"--notest_count"}), "unknown flag --notest_count");
  EXPECT_THAT(ErrorOf({"--test_count=many"}), HasSubstr("--test_count cannot be \"many\""));
  EXPECT_EQ(ErrorOf({"--test_word"}), "--test_word needs a value");
}

TEST_F(CommandLineTest, AFormOfACommandMayHaveNoUseForAFlag) {
  absl::SetFlag(&FLAGS_test_count, 5);
  EXPECT_TRUE(AllowOnly("try this", {"test_count", "test_word"}).ok());
  absl::SetFlag(&FLAGS_test_loud, true);
  const absl::Status status = AllowOnly("try this", {"test_count", "test_word"});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()),
            "`orrery try this` has no use for --test_loud; it takes --test_count, --test_word");
}

TEST_F(CommandLineTest, AFlagOfAnotherCommandIsUnknown) {
  EXPECT_FALSE(ParseFlags({"--test_count=5"}, {"tools/other.cc"}).ok());
}

TEST_F(CommandLineTest, HelpNamesFlagsWithTheirDefaults) {
  EXPECT_THAT(FlagsHelp(files_), HasSubstr("--test_count=3"));
  EXPECT_THAT(FlagsHelp(files_), HasSubstr("whether to shout"));
}

}  // namespace
}  // namespace orrery
