#include "placement/spreader.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;

constexpr int kLayer = 3;

class SpreaderTest : public ::testing::Test {
 protected:
  std::vector<int> Pick(const std::vector<int>& rows, int layer = kLayer) {
    std::vector<int> picked(rows.size());
    spreader_.Pick(holders_, {.layer = layer, .rows = rows}, usable_, absl::MakeSpan(picked));
    return picked;
  }
  HolderTable holders_{3};
  std::vector<bool> usable_ = {true, true, true};
  Spreader spreader_{4, 3};
};

TEST_F(SpreaderTest, AsksTheOnlyHolderAndNobodyForWhatNoRowVisits) {
  holders_.SetHeld(0, {{.layer = kLayer, .experts = {0, 1}}});
  holders_.SetHeld(2, {{.layer = kLayer, .experts = {2}}});
  EXPECT_THAT(Pick({3, 0, 1, 2}), ElementsAre(0, kNoShard, 2, kNoShard));
}

TEST_F(SpreaderTest, GivesTheFullestExpertsTheEmptiestHolders) {
  holders_.SetHeld(0, {{.layer = kLayer, .experts = {0, 1, 2, 3}}});
  holders_.SetHeld(1, {{.layer = kLayer, .experts = {1, 2, 3}}});
  // Shard 0 alone holds expert 0. Expert 2 goes first, then 3, then 1, where there is less.
  EXPECT_THAT(Pick({8, 2, 9, 3}), ElementsAre(0, 1, 1, 0));
}

TEST_F(SpreaderTest, LeavesOutWhoIsNotUsable) {
  for (const int shard : {0, 1}) holders_.SetHeld(shard, {{.layer = kLayer, .experts = {0, 1}}});
  usable_ = {false, true, true};
  EXPECT_THAT(Pick({4, 4, 0, 0}), ElementsAre(1, 1, kNoShard, kNoShard));
  usable_ = {false, false, true};
  EXPECT_THAT(Pick({4, 4, 0, 0}), ElementsAre(kNoShard, kNoShard, kNoShard, kNoShard));
}

// A lone row visits one expert at a time, in every layer of every step.
TEST_F(SpreaderTest, ALoneRowTakesAllHoldersInTurnInEachLayer) {
  for (const int layer : {kLayer, kLayer + 1}) {
    for (const int shard : {0, 2}) holders_.Add(shard, {.layer = layer, .expert = 1});
  }
  std::vector<int> num_asked(3);
  for (int step = 0; step < 100; ++step) {
    const int picked = Pick({0, 1, 0, 0}, kLayer)[1];
    EXPECT_EQ(Pick({0, 1, 0, 0}, kLayer + 1)[1], picked);
    ++num_asked[picked];
  }
  EXPECT_THAT(num_asked, ElementsAre(50, 0, 50));
}

// Shard 1 always has something else to do, shard 2 has not.
TEST_F(SpreaderTest, AHotExpertDoesNotStayWithTheIdlerHolderForEver) {
  holders_.SetHeld(1, {{.layer = kLayer, .experts = {0, 1}}});
  holders_.SetHeld(2, {{.layer = kLayer, .experts = {1}}});
  std::vector<int> rows(3);
  for (int step = 0; step < 1000; ++step) {
    const std::vector<int> picked = Pick({4, 20, 0, 0});
    rows[picked[0]] += 4;
    rows[picked[1]] += 20;
  }
  EXPECT_GT(rows[1], 9000);
  EXPECT_GT(rows[2], 9000);
}

TEST_F(SpreaderTest, PicksAUsableHolderWhateverComes) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    for (int shard = 0; shard < 3; ++shard) {
      LayerExperts held = {.layer = kLayer, .experts = {}};
      for (int expert = 0; expert < 4; ++expert) {
        if (random() % 2 == 0) held.experts.push_back(expert);
      }
      holders_.SetHeld(shard, {held});
      usable_[shard] = random() % 4 != 0;
    }
    std::vector<int> rows(4);
    for (int& of_expert : rows) of_expert = static_cast<int>(random() % 5);
    const std::vector<int> picked = Pick(rows);
    for (int expert = 0; expert < 4; ++expert) {
      const ExpertKey key = {.layer = kLayer, .expert = expert};
      if (rows[expert] == 0 || holders_.Pick(key, usable_) == kNoShard) {
        EXPECT_EQ(picked[expert], kNoShard);
      } else {
        EXPECT_TRUE(holders_.Holds(picked[expert], key) && usable_[picked[expert]]);
      }
    }
  }
}

}  // namespace
}  // namespace orrery
