// Where answers stop, against an oracle that searches the whole text.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/attention/answer_stream.h"
#include "services/attention/answer_stream_fixture.h"

namespace orrery {
namespace {

// The first byte at which a stop string is complete, and the longest such string.
std::optional<std::pair<size_t, std::string>> FirstStop(std::string_view text,
                                                        const std::vector<std::string>& strings,
                                                        size_t min_end) {
  for (size_t end = min_end; end <= text.size(); ++end) {
    const std::string* longest = nullptr;
    for (const std::string& s : strings) {
      if (text.substr(0, end).ends_with(s) && (!longest || s.size() > longest->size())) {
        longest = &s;
      }
    }
    if (longest != nullptr) return std::pair(end - longest->size(), *longest);
  }
  return std::nullopt;
}

std::string RandomText(size_t max_bytes, int num_letters, std::mt19937& random) {
  std::string text(1 + random() % max_bytes, 'a');
  for (char& c : text) c = static_cast<char>('a' + random() % num_letters);
  return text;
}

// Whatever the tokens: text and stop string are those of a search in the whole text, what has left
// before the end never has to be taken back, and nothing is held that could not matter.
TEST(AnswerStreamSearch, EqualsASearchInTheWholeTextOnRandomTokens) {
  std::mt19937 random(1);
  std::vector<std::string> pieces;
  for (const std::string a : {"a", "b", "c"}) {
    pieces.push_back(a);
    for (const std::string b : {"a", "b", "c"}) {
      pieces.push_back(a + b);
      for (const std::string c : {"a", "b", "c"}) pieces.push_back(a + b + c);
    }
  }
  const TestTokenizer tokenizer(pieces);
  for (int trial = 0; trial < 5000; ++trial) {
    StopRules rules;
    rules.max_new_tokens = 1 + static_cast<int>(random() % 20);
    rules.min_new_tokens = trial % 2 == 0 ? 0 : static_cast<int>(random() % rules.max_new_tokens);
    const int num_letters = 1 + static_cast<int>(random() % 3);
    for (int i = random() % 4; i >= 0; --i) {
      rules.stop_strings.push_back(RandomText(9, num_letters, random));
    }
    std::vector<int32_t> ids;
    std::string text;
    size_t min_end = 1;  // a stop string must be complete at this byte or behind it
    for (int i = 0; i < rules.max_new_tokens; ++i) {
      if (i + 1 == rules.min_new_tokens) min_end = text.size() + 1;
      const std::string piece = RandomText(3, num_letters, random);
      ids.push_back(tokenizer.Id(piece));
      text += piece;
    }
    const Outcome outcome = RunIds(rules, tokenizer.get(), ids);
    const auto stop = FirstStop(text, rules.stop_strings, min_end);
    ASSERT_TRUE(outcome.end.has_value());
    EXPECT_EQ(outcome.end->reason, stop ? EndReason::kStop : EndReason::kLength);
    EXPECT_EQ(outcome.end->stop_string, stop ? stop->second : "");
    ASSERT_EQ(outcome.text, stop ? text.substr(0, stop->first) : text) << "trial " << trial;
    EXPECT_EQ(outcome.released.size(), outcome.released_after.size()) << "all have left";

    // What may still become a stop string, after each token but the last.
    size_t num_bytes = 0;
    for (size_t n = 1; n < outcome.released_after.size(); ++n) {
      num_bytes += tokenizer.get()->TokenBytes(ids[n - 1]).size();
      size_t pending = 0;
      for (const std::string& s : rules.stop_strings) {
        for (size_t size = 1; size < s.size(); ++size) {
          if (text.substr(0, num_bytes).ends_with(s.substr(0, size))) {
            pending = std::max(pending, size);
          }
        }
      }
      size_t num_released = 0, end = 0;
      while (num_released < n) {
        end += tokenizer.get()->TokenBytes(ids[num_released]).size();
        if (end > num_bytes - pending) break;
        ++num_released;
      }
      EXPECT_EQ(outcome.released_after[n - 1], num_released) << "trial " << trial;
    }
  }
}

// The same text, cut into tokens in another way, stops at the same byte.
TEST(AnswerStreamSearch, StopsAtTheSameByteWhateverTheTokens) {
  absl::StatusOr<Tokenizer> bundled = Tokenizer::Open("models/abacus");
  ASSERT_TRUE(bundled.ok()) << bundled.status();
  const std::string text =
      "Seven plus five is twelve.\n\nQ: 57+68=? The answer is 125 €, and that is the end.\n";
  const auto bundled_ids = bundled->Encode(text, SpecialText::kPlain);
  ASSERT_TRUE(bundled_ids.ok());
  const TestTokenizer byte_by_byte({});
  std::vector<int32_t> byte_ids;
  for (const char c : text) byte_ids.push_back(static_cast<unsigned char>(c));
  for (size_t begin = 0; begin < text.size(); ++begin) {
    for (const size_t size : {1, 2, 5, 11}) {
      const StopRules rules = StopAt({text.substr(begin, size)});
      const std::string expected = text.substr(0, text.find(rules.stop_strings[0]));
      EXPECT_EQ(RunIds(rules, &*bundled, *bundled_ids).text, expected);
      EXPECT_EQ(RunIds(rules, byte_by_byte.get(), byte_ids).text, expected);
    }
  }
}

TEST(StopStringMatcher, HoldsFewerBytesThanTheLongestString) {
  const std::vector<std::string> strings = {"aaaa", "ab"};
  StopStringMatcher matcher(strings);
  for (int i = 0; i < 20; ++i) {
    const std::string* match = matcher.Append('a');
    EXPECT_EQ(match != nullptr, i >= 3);
    EXPECT_EQ(matcher.num_pending_bytes(), std::min(i + 1, 3));
  }
  matcher.Reset();
  EXPECT_EQ(matcher.num_pending_bytes(), 0);
  EXPECT_EQ(matcher.Append('b'), nullptr);
}

}  // namespace
}  // namespace orrery
