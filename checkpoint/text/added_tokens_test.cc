#include "checkpoint/text/added_tokens.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

std::string Split(const AddedTokenMatcher& matcher, std::string_view text) {
  std::string result;
  const absl::Status status =
      matcher.Split(text, [&result](std::string_view part, std::optional<int32_t> id) {
        absl::StrAppend(&result, "|", std::string(part));
        if (id) absl::StrAppend(&result, "=", *id);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok());
  return result;
}

TEST(AddedTokenMatcher, TakesTheLeftmostThenTheLongest) {
  AddedTokenMatcher matcher;
  matcher.Add("<a>", 1);
  matcher.Add("<a><b>", 2);
  matcher.Add("<b>", 3);
  EXPECT_EQ(Split(matcher, ""), "");
  EXPECT_EQ(Split(matcher, "x<a>y"), "|x|<a>=1|y");
  EXPECT_EQ(Split(matcher, "<a><b>"), "|<a><b>=2");
  EXPECT_EQ(Split(matcher, "<a><"), "|<a>=1|<");
  EXPECT_EQ(Split(matcher, "<<b><a"), "|<|<b>=3|<a");
}

TEST(AddedTokenMatcher, WithoutTokensPassesTextThrough) {
  EXPECT_EQ(Split(AddedTokenMatcher(), "<a>"), "|<a>");
}

TEST(AddedTokenMatcher, EndsAtTheFirstError) {
  AddedTokenMatcher matcher;
  matcher.Add("x", 1);
  int calls = 0;
  const absl::Status status = matcher.Split("axb", [&](std::string_view, std::optional<int32_t>) {
    ++calls;
    return absl::InternalError("stop");
  });
  EXPECT_EQ(status.message(), "stop");
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace orrery
