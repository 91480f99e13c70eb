#include "checkpoint/text/utf8.h"

#include <vector>

#include "checkpoint/text/byte_alphabet.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

std::string Replace(std::string_view bytes) {
  std::string text;
  EXPECT_EQ(AppendReplacingInvalid(bytes, /*is_end=*/true, text), bytes.size());
  return text;
}

TEST(Utf8, EveryCodePointSurvivesTheRoundTrip) {
  for (char32_t code_point = 0; code_point <= 0x10ffff; ++code_point) {
    if (code_point >= 0xd800 && code_point <= 0xdfff) continue;
    std::string text;
    AppendUtf8(code_point, text);
    ASSERT_EQ(FindInvalidUtf8(text), std::string_view::npos) << std::hex << uint32_t{code_point};
    ASSERT_EQ(DecodeUtf8(text), code_point);
  }
}

// Expected values: Python's bytes.decode("utf-8", "replace"), with "?" for U+FFFD.
TEST(Utf8, InvalidSequencesAreReplacedByMaximalSubparts) {
  const std::string r = "\xef\xbf\xbd";
  EXPECT_EQ(Replace("a\x80z"), "a" + r + "z");
  EXPECT_EQ(Replace("\xc0\xaf"), r + r);          // overlong
  EXPECT_EQ(Replace("\xe0\x9f\xbf"), r + r + r);  // overlong
  EXPECT_EQ(Replace("\xed\xa0\x80"), r + r + r);  // surrogate
  EXPECT_EQ(Replace("\xf4\x90\x80\x80"), r + r + r + r);
  EXPECT_EQ(Replace("\xf0\x9f\x98"), r);         // cut at the end
  EXPECT_EQ(Replace("\xf0\x9f\x98x"), r + "x");  // cut by another character
  EXPECT_EQ(Replace("\xe4\xbd\xe4\xbd\xa0"), r + "\xe4\xbd\xa0");
  EXPECT_EQ(Replace("\xff\xfe"), r + r);
}

TEST(Utf8, FindsTheFirstInvalidByte) {
  EXPECT_EQ(FindInvalidUtf8("abc"), std::string_view::npos);
  EXPECT_EQ(FindInvalidUtf8(""), std::string_view::npos);
  EXPECT_EQ(FindInvalidUtf8("ab\xffz"), 2u);
  EXPECT_EQ(FindInvalidUtf8("ab\xe4\xbd"), 2u);
}

TEST(Utf8, LeavesACharacterThatIsCutUntilMoreFollows) {
  std::string text;
  EXPECT_EQ(AppendReplacingInvalid("a\xf0\x9f\x98", /*is_end=*/false, text), 1u);
  EXPECT_EQ(text, "a");
}

TEST(ByteAlphabet, WritesEveryByteAsACharacterAndBack) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<char>(byte));
  const std::string text = BytesToAlphabet(bytes);
  EXPECT_EQ(FindInvalidUtf8(text), std::string_view::npos);
  EXPECT_EQ(AlphabetToBytes(text), bytes);
  EXPECT_EQ(BytesToAlphabet(" \n!"), "ĠĊ!");
}

TEST(ByteAlphabet, RefusesOtherCharacters) {
  EXPECT_EQ(AlphabetToBytes(" "), std::nullopt);
  EXPECT_EQ(AlphabetToBytes("a｜b"), std::nullopt);
  EXPECT_EQ(AlphabetToBytes("ń"), std::nullopt);  // U+0144, one past the last
}

}  // namespace
}  // namespace orrery
