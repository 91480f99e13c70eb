#include "services/expert/bit_flips.h"

#include <bit>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

// How many bits each of some results has wrong.
std::vector<int> Harm(BitFlips flips, int num_results) {
  std::vector<int> num_wrong;
  for (int i = 0; i < num_results; ++i) {
    std::vector<std::byte> result(64);
    flips(absl::MakeSpan(result));
    int num = 0;
    for (const std::byte byte : result) num += std::popcount(std::to_integer<unsigned>(byte));
    num_wrong.push_back(num);
  }
  return num_wrong;
}

TEST(BitFlips, SpoilsOneBitOfAboutOneResultInSoMany) {
  int num_spoiled = 0;
  for (const int num_wrong : Harm(BitFlips(100, /*seed=*/3), 100'000)) {
    ASSERT_LE(num_wrong, 1);
    num_spoiled += num_wrong;
  }
  EXPECT_GT(num_spoiled, 900);  // three standard deviations of 32
  EXPECT_LT(num_spoiled, 1100);
}

TEST(BitFlips, AreTheSameForTheSameSeedAndOthersForAnother) {
  EXPECT_EQ(Harm(BitFlips(10, 3), 1000), Harm(BitFlips(10, 3), 1000));
  EXPECT_NE(Harm(BitFlips(10, 3), 1000), Harm(BitFlips(10, 4), 1000));
}

TEST(BitFlips, OneInOneSpoilsEveryResult) {
  for (const int num_wrong : Harm(BitFlips(1, 0), 100)) EXPECT_EQ(num_wrong, 1);
}

TEST(BitFlips, AreReadFromAFlag) {
  EXPECT_FALSE(ParseBitFlips("")->has_value());
  EXPECT_TRUE(ParseBitFlips("1000")->has_value());
  EXPECT_TRUE(ParseBitFlips("1000:7")->has_value());
  for (const char* const text : {"0", "-1", "x", "10:", "10:x", ":7"}) {
    const auto flips = ParseBitFlips(text);
    EXPECT_EQ(flips.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(flips.status().message()), HasSubstr(text));
  }
}

}  // namespace
}  // namespace orrery
