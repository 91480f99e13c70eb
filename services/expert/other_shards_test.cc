#include "services/expert/other_shards.h"

#include "gtest/gtest.h"
#include "placement/heirs.h"

namespace orrery {
namespace {

constexpr int kLayer = 3;

// Four shards with two experts each; expert 0 is at home at shard 0.
class OtherShardsTest : public ::testing::Test {
 protected:
  OtherShards Of(int self) { return OtherShards(names_, homes_, self); }
  static OtherShards::Description Holding(std::set<int> experts, uint64_t incarnation = 1) {
    OtherShards::Description description = {.is_serving = true, .incarnation = incarnation};
    for (const int expert : experts) description.held.insert({kLayer, expert});
    return description;
  }
  absl::Time At(int seconds) const { return absl::UnixEpoch() + absl::Seconds(seconds); }

  const std::vector<std::string> names_ = {"a", "b", "c", "d"};
  const std::vector<ExpertRange> homes_ = {{0, 2}, {2, 4}, {4, 6}, {6, 8}};
  const ExpertKey key_ = {.layer = kLayer, .expert = 0};
};

TEST_F(OtherShardsTest, AHomeServesItsOwnWhileItSaysSo) {
  OtherShards others = Of(1);
  EXPECT_FALSE(others.ServesItsOwn(key_, At(0)));
  others.OnDescription(0, Holding({0, 1}));
  EXPECT_TRUE(others.ServesItsOwn(key_, At(0)));
  EXPECT_FALSE(others.ServesItsOwn({.layer = kLayer + 1, .expert = 0}, At(0)));
  others.OnDescription(2, Holding({6}));
  EXPECT_FALSE(others.ServesItsOwn({.layer = kLayer, .expert = 6}, At(0))) << "not its home";
  others.OnDescription(0, {});
  EXPECT_FALSE(others.ServesItsOwn(key_, At(0)));
}

TEST_F(OtherShardsTest, WhoIsConvictedHoldsNothingUntilAnotherProcessIsThere) {
  OtherShards others = Of(1);
  others.OnDescription(0, Holding({0}, /*incarnation=*/77));
  others.OnConvicted({77}, At(0));
  EXPECT_FALSE(others.ServesItsOwn(key_, At(1)));
  others.OnDescription(0, Holding({0}, /*incarnation=*/78));
  EXPECT_TRUE(others.ServesItsOwn(key_, At(1)));
}

TEST_F(OtherShardsTest, AConvictionThatNoRankRepeatsIsForgotten) {
  OtherShards others = Of(1);
  others.OnDescription(0, Holding({0}, /*incarnation=*/77));
  others.OnConvicted({77}, At(0));
  others.OnConvicted({}, At(20));  // by another rank
  others.OnConvicted({77}, At(25));
  EXPECT_FALSE(others.ServesItsOwn(key_, At(54)));
  EXPECT_TRUE(others.ServesItsOwn(key_, At(55)));
}

TEST_F(OtherShardsTest,
       OfTwoThatHoldTheSameTheLaterHeirKnowsOfTheEarlierOneAndNotTheOtherWayRound) {
  const std::vector<int> order = HeirOrder(key_, names_);
  OtherShards of_first = Of(order[0]), of_last = Of(order[3]);
  of_first.OnDescription(order[3], Holding({0}));
  of_last.OnDescription(order[0], Holding({0}, /*incarnation=*/5));
  EXPECT_FALSE(of_first.IsHeldBefore(key_, At(0)));
  EXPECT_TRUE(of_last.IsHeldBefore(key_, At(0)));
  of_last.OnConvicted({5}, At(0));
  EXPECT_FALSE(of_last.IsHeldBefore(key_, At(0)));
}

}  // namespace
}  // namespace orrery
