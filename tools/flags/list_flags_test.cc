#include "tools/flags/list_flags.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

template <typename List>
List Parsed(const std::string& text) {
  List list;
  std::string error;
  EXPECT_TRUE(AbslParseFlag(text, &list, &error)) << error;
  // What is printed is read as the same list again.
  List again;
  EXPECT_TRUE(AbslParseFlag(AbslUnparseFlag(list), &again, &error)) << error;
  EXPECT_EQ(AbslUnparseFlag(again), AbslUnparseFlag(list));
  return list;
}

template <typename List>
std::string ErrorOf(const std::string& text) {
  List list;
  std::string error;
  EXPECT_FALSE(AbslParseFlag(text, &list, &error)) << text;
  return error;
}

TEST(StopStrings, AreCutAtCommasAndKnowEscapes) {
  EXPECT_THAT(Parsed<StopStrings>("").strings, IsEmpty());
  EXPECT_THAT(Parsed<StopStrings>("END").strings, ElementsAre("END"));
  EXPECT_THAT(Parsed<StopStrings>("\\n\\n, a,b\\,c,\\\\n").strings,
              ElementsAre("\n\n", " a", "b,c", "\\n"));
  EXPECT_THAT(Parsed<StopStrings>("a,").strings, ElementsAre("a", ""));
  EXPECT_THAT(AbslUnparseFlag(StopStrings{{"b,c", "\t"}}), "b\\,c,\\t");
}

TEST(StopStrings, RefuseEscapesThatMeanNothing) {
  EXPECT_THAT(ErrorOf<StopStrings>("a\\x"), HasSubstr("\"\\x\" means nothing"));
  EXPECT_THAT(ErrorOf<StopStrings>("a\\"), HasSubstr("\"\\\" means nothing"));
}

TEST(TokenIdList, IsNumbersBetweenCommas) {
  EXPECT_THAT(Parsed<TokenIdList>("").ids, IsEmpty());
  EXPECT_THAT(Parsed<TokenIdList>("1,-7, 9").ids, ElementsAre(1, -7, 9));
  EXPECT_THAT(ErrorOf<TokenIdList>("1,x"), HasSubstr("\"x\" is no id"));
  EXPECT_THAT(ErrorOf<TokenIdList>("1,,2"), HasSubstr("\"\" is no id"));
  EXPECT_THAT(ErrorOf<TokenIdList>("99999999999"), HasSubstr("is no id"));
}

TEST(LogitBias, IsIdsWithValues) {
  EXPECT_THAT(Parsed<LogitBias>("").biases, IsEmpty());
  EXPECT_THAT(Parsed<LogitBias>("9:1.5,5:-100").biases,
              ElementsAre(Pair(5, -100.0f), Pair(9, 1.5f)));
  for (const char* bad : {"5", "5:", ":1", "5:x", "5:1:2", "5:1,"}) {
    EXPECT_THAT(ErrorOf<LogitBias>(bad), HasSubstr("is not ID:VALUE")) << bad;
  }
  EXPECT_THAT(ErrorOf<LogitBias>("5:1,5:2"), HasSubstr("id 5 stands twice"));
}

}  // namespace
}  // namespace orrery
