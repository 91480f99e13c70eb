#include "checkpoint/text/pre_tokenizer.h"

#include "absl/strings/str_join.h"
#include "checkpoint/text/utf8.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

// The patterns of DeepSeek-V3, Qwen2 and Llama-3.
const std::vector<std::string> kDeepseekV3 = {
    R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"};
const std::vector<std::string> kQwen2 = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
const std::vector<std::string> kLlama3 = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

std::string Split(const std::vector<std::string>& patterns, std::string_view text) {
  absl::StatusOr<PreTokenizer> splitter = PreTokenizer::Create(patterns);
  if (!splitter.ok()) return splitter.status().ToString();
  std::vector<std::string_view> pieces;
  const absl::Status status = splitter->Split(text, pieces);
  if (!status.ok()) return status.ToString();
  return absl::StrJoin(pieces, "|", [](std::string* out, std::string_view piece) {
    out->append(piece.empty() ? "(empty)" : std::string(piece));
  });
}

TEST(PreTokenizer, GroupsDigitsFromTheLeft) {
  EXPECT_EQ(Split(kDeepseekV3, "1234567"), "123|456|7");
  EXPECT_EQ(Split(kQwen2, "123"), "1|2|3");
  EXPECT_EQ(Split(kLlama3, "x1234"), "x|123|4");
}

TEST(PreTokenizer, LeavesTheLastBlankToTheNextWord) {
  EXPECT_EQ(Split(kDeepseekV3, "a   b"), "a|  | b");
  EXPECT_EQ(Split(kDeepseekV3, "a   "), "a|   ");
  EXPECT_EQ(Split(kQwen2, "a \n b"), "a| \n| b");
}

TEST(PreTokenizer, CutsContractionsInAnyCase) {
  EXPECT_EQ(Split(kQwen2, "I'VE you'll"), "I|'VE| you|'ll");
  EXPECT_EQ(Split(kDeepseekV3, "don't"), "don|'t");
}

TEST(PreTokenizer, SeesNothingOfNeighbouringPieces) {
  // The digit is cut off first, so the blanks before it end their piece.
  EXPECT_EQ(Split(kDeepseekV3, "a  1"), "a|  |1");
}

// U+0085 and U+3000 are White_Space, U+180E and U+001C are not.
TEST(PreTokenizer, TakesWhiteSpaceFromUnicode) {
  const std::vector<std::string> spaces = {R"(\s+)"};
  const std::vector<std::string> others = {R"(\S+)"};
  const std::vector<std::string> in_class = {R"([\s]+)"};
  for (char32_t code_point = 1; code_point < 0x11000; ++code_point) {
    if (code_point >= 0xd800 && code_point <= 0xdfff) continue;
    const bool is_space = (code_point >= 9 && code_point <= 13) || code_point == 0x20 ||
                          code_point == 0x85 || code_point == 0xa0 || code_point == 0x1680 ||
                          (code_point >= 0x2000 && code_point <= 0x200a) || code_point == 0x2028 ||
                          code_point == 0x2029 || code_point == 0x202f || code_point == 0x205f ||
                          code_point == 0x3000;
    // Checking every code point would take long; the edges of each range matter.
    const bool near_space = code_point < 0x100 || (code_point >= 0x1670 && code_point < 0x2070) ||
                            (code_point >= 0x2ff0 && code_point < 0x3010) || code_point == 0xfeff;
    if (!near_space) continue;
    std::string text = "a";
    AppendUtf8(code_point, text);
    const std::string cut = std::string("a|") + text.substr(1);
    ASSERT_EQ(Split(spaces, text), is_space ? cut : text) << std::hex << uint32_t{code_point};
    ASSERT_EQ(Split(in_class, text), is_space ? cut : text) << std::hex << uint32_t{code_point};
    ASSERT_EQ(Split(others, text), is_space ? cut : text) << std::hex << uint32_t{code_point};
  }
}

TEST(PreTokenizer, KeepsEveryByteWhateverThePatternsMatch) {
  EXPECT_EQ(Split({}, "anything"), "anything");
  EXPECT_EQ(Split({"x"}, "axb"), "a|x|b");
  EXPECT_EQ(Split(kDeepseekV3, ""), "");
  EXPECT_EQ(Split(kDeepseekV3, std::string("\0\x01", 2)), std::string("\0\x01", 2));
  // An empty match cuts and takes nothing; it may stand before a character of several bytes.
  EXPECT_EQ(Split({"(?=é)"}, "aébé"), "a|éb|é");
}

TEST(PreTokenizer, RefusesPatternsThatMeanSomethingElseInPcre2) {
  for (const char* pattern : {R"([^\S])", "[a[b]]", "[a&&b]", "(*UTF)a", R"(\w+)", R"(\h)"}) {
    const absl::StatusOr<PreTokenizer> splitter = PreTokenizer::Create({pattern});
    EXPECT_EQ(splitter.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
  }
  EXPECT_EQ(Split({"(a"}, "a").substr(0, 16), "INVALID_ARGUMENT");
}

TEST(PreTokenizer, BracketsAfterTheOpeningOneAreLiteral) {
  EXPECT_EQ(Split({R"([]a]+)"}, "x]ay"), "x|]a|y");
  EXPECT_EQ(Split({R"([^]a]+)"}, "x]ay"), "x|]a|y");
}

TEST(PreTokenizer, GivesUpOnExponentialPatterns) {
  EXPECT_EQ(Split({"(?:a|a)*[bc]"}, std::string(60, 'a')).substr(0, 18), "RESOURCE_EXHAUSTED");
}

TEST(PreTokenizer, TakesLongRunsInLinearTime) {
  const std::string blanks(1 << 20, ' ');
  EXPECT_EQ(Split(kDeepseekV3, blanks + "x").size(), blanks.size() + 2);
  EXPECT_EQ(Split(kQwen2, std::string(1 << 20, 'x')).size(), size_t{1} << 20);
  EXPECT_EQ(Split(kDeepseekV3, std::string(1 << 20, '!')).size(), size_t{1} << 20);
}

}  // namespace
}  // namespace orrery
