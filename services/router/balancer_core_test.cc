#include "services/router/balancer_core.h"

#include <algorithm>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kLayer = 3;
constexpr int kNumExperts = 4;
constexpr int kRouter0 = 0, kShard0 = 1, kShard1 = 2, kSpare = 3;  // in the membership

// router-1 is us. expert-0 is home of 0 and 1, expert-1 of 2 and 3, expert-2 is a spare with room for two.
class BalancerCoreTest : public ::testing::Test {
 protected:
  BalancerCoreTest() {
    Describe(kShard0, {0, 1});
    Describe(kShard1, {2, 3});
    Describe(kSpare, {}, /*room=*/2);
  }

  void Describe(int member, const std::vector<int>& held, int room = 0,
                internal::MemberState state = internal::MEMBER_STATE_READY) {
    internal::MemberDescription description;
    description.set_name(membership_.member(member).info.name);
    description.set_role(membership_.member(member).info.role);
    description.set_state(state);
    description.mutable_fingerprint()->set_config_hash("c0");
    description.mutable_heir_offer()->set_room(room);
    internal::HeldExperts& layer = *description.add_held();
    layer.set_layer(kLayer);
    for (const int expert : held) layer.add_expert(expert);
    membership_.OnDescription(member, description);
  }
  // So many more rows since it last said.
  void Count(int member, const std::vector<int>& rows) {
    internal::RowCounts counts;
    internal::LayerRowCounts& layer = *counts.add_layer();
    layer.set_layer(kLayer);
    for (int expert = 0; expert < kNumExperts; ++expert) {
      counted_[member][expert] += rows[expert];
      layer.add_rows(counted_[member][expert]);
    }
    core_.OnRows(member, counts);
  }
  void CountAll(const std::vector<int>& of_shard_0, const std::vector<int>& of_shard_1,
                const std::vector<int>& of_spare = {0, 0, 0, 0}) {
    Count(kShard0, of_shard_0);
    Count(kShard1, of_shard_1);
    Count(kSpare, of_spare);
  }
  void CountFirst() { CountAll({0, 0, 0, 0}, {0, 0, 0, 0}); }
  // By member: the experts that it is to hold.
  std::map<int, std::vector<int>> Decide() {
    std::map<int, std::vector<int>> told;
    for (const BalanceOrder& order : core_.Decide(membership_, now_)) {
      std::vector<int>& experts = told[order.member];
      for (const ExpertKey& key : order.copies) {
        EXPECT_EQ(key.layer, kLayer);
        experts.push_back(key.expert);
      }
      std::sort(experts.begin(), experts.end());
    }
    return told;
  }

  Membership membership_{{{internal::ROLE_ROUTER, "router-0", "h:1"},
                          {internal::ROLE_EXPERT, "expert-0", "h:2"},
                          {internal::ROLE_EXPERT, "expert-1", "h:3"},
                          {internal::ROLE_EXPERT, "expert-2", "h:4", /*is_spare=*/true}},
                         {.config_hash = "c0", .files = {}}};
  BalancerCore core_{{.self = "router-1",
                      .num_groups = 1,
                      .homes = {{kShard0, {0, 2}}, {kShard1, {2, 4}}, {kSpare, {0, 0}}}}};
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  std::map<int, std::map<int, int64_t>> counted_;  // by member: by expert
};

TEST_F(BalancerCoreTest, TheLiveRouterWithTheLowestNameBalances) {
  EXPECT_TRUE(core_.IsOurs(membership_));  // router-0 was never seen
  Describe(kRouter0, {});
  EXPECT_FALSE(core_.IsOurs(membership_));
  membership_.OnUnreachable(kRouter0, "it is gone");
  EXPECT_TRUE(core_.IsOurs(membership_));
}

TEST_F(BalancerCoreTest, AsksTheShardsThatAreThere) {
  EXPECT_THAT(core_.Shards(membership_), ElementsAre(kShard0, kShard1, kSpare));
  membership_.OnUnreachable(kSpare, "it is gone");
  Describe(kShard1, {2, 3}, 0, internal::MEMBER_STATE_DRAINING);
  EXPECT_THAT(core_.Shards(membership_), ElementsAre(kShard0));
}

TEST_F(BalancerCoreTest, CopiesAHotExpertToTheSpareAndSaysSo) {
  CountFirst();
  CountAll({6000, 1000, 0, 0}, {0, 0, 1000, 1000});
  const auto told = Decide();
  EXPECT_TRUE(core_.has_moved());
  EXPECT_THAT(told.at(kShard0), IsEmpty());
  EXPECT_THAT(told.at(kSpare), ::testing::Contains(0));
  EXPECT_EQ(core_.view().num_moves(), 1);
  EXPECT_NEAR(core_.view().imbalance(), 7.0 / 3, 0.01);
  EXPECT_NEAR(core_.view().before(), 7.0 / 3, 0.01);
  EXPECT_LT(core_.view().after(), 1.5);
  EXPECT_THAT(core_.view().reason(), HasSubstr("in layer 3 expert-0 had 2.33 times the mean rows"));
}

// What a shard counted before we first asked may be years old.
TEST_F(BalancerCoreTest, TheFirstCountOfAShardIsNoLoad) {
  CountAll({6000, 1000, 0, 0}, {0, 0, 1000, 1000});
  EXPECT_THAT(Decide().at(kSpare), IsEmpty());
  EXPECT_FALSE(core_.has_moved());
  EXPECT_EQ(core_.view().imbalance(), 0);
}

// While the shard loads, and says so only when it has.
TEST_F(BalancerCoreTest, WhatWasToldCountsAsThereWhileItIsLoaded) {
  CountFirst();
  CountAll({6000, 1000, 0, 0}, {0, 0, 1000, 1000});
  const auto told = Decide();
  now_ += absl::Seconds(10);
  CountAll({6000, 1000, 0, 0}, {0, 0, 1000, 1000});
  EXPECT_EQ(Decide(), told);
  EXPECT_FALSE(core_.has_moved());
  EXPECT_EQ(core_.view().num_moves(), 1);
  // It never came.
  now_ += BalancerCore::kLoadTime;
  CountAll({6000, 1000, 0, 0}, {0, 0, 1000, 1000});
  EXPECT_EQ(Decide(), told);
  EXPECT_EQ(core_.view().num_moves(), 2);
}

TEST_F(BalancerCoreTest, KeepsTheCopiesOfTheBalancerBeforeItUntilItKnowsBetter) {
  Describe(kSpare, {1}, /*room=*/2);
  CountFirst();
  EXPECT_THAT(Decide().at(kSpare), ElementsAre(1));
}

TEST_F(BalancerCoreTest, AShardThatWasStartedAnewCountsFromZero) {
  CountFirst();
  CountAll({6000, 1000, 0, 0}, {0, 0, 1000, 1000});
  Decide();
  counted_.erase(kShard0);
  Count(kShard0, {0, 3000, 0, 0});  // less than before
  EXPECT_NEAR((Decide(), core_.view().imbalance()), (3500 + 3000) / ((3500 + 3000 + 1000) / 3.0),
              0.01);
}

// Orphans are kept whatever the balancer thinks, and are no copies of its.
TEST_F(BalancerCoreTest, ExpertsOfAShardThatIsGoneAreNobodysCopies) {
  membership_.OnUnreachable(kShard0, "it is gone");
  Describe(kSpare, {0, 1}, /*room=*/0);
  Describe(kShard1, {2, 3}, /*room=*/1);
  Count(kShard1, {0, 0, 0, 0});
  Count(kSpare, {0, 0, 0, 0});
  Count(kShard1, {0, 0, 1000, 1000});
  Count(kSpare, {6000, 1000, 0, 0});
  const auto told = Decide();
  EXPECT_EQ(told.count(kShard0), 0u);
  EXPECT_THAT(told.at(kSpare), IsEmpty());
  EXPECT_THAT(told.at(kShard1), ElementsAre(0));
}

TEST_F(BalancerCoreTest, OldLoadIsForgottenBitByBit) {
  CountFirst();
  CountAll({6000, 1000, 0, 0}, {0, 0, 1000, 1000});
  Decide();
  Describe(kSpare, {0}, /*room=*/2);
  for (int round = 0; round < 8; ++round) {
    now_ += absl::Seconds(10);
    CountAll({1000, 1000, 0, 0}, {0, 0, 6000, 1000}, {1000, 0, 0, 0});
    Decide();
  }
  EXPECT_THAT(Decide().at(kSpare), ::testing::Contains(2));
}

TEST_F(BalancerCoreTest, ForgetsEverythingWhenAnotherRouterTakesOver) {
  CountFirst();
  CountAll({6000, 1000, 0, 0}, {0, 0, 1000, 1000});
  core_.Forget();
  CountAll({6000, 1000, 0, 0}, {0, 0, 1000, 1000});
  Decide();
  EXPECT_FALSE(core_.has_moved());
}

// Shards that come and go, and hold what they are told as real ones do (services/expert/copies.h), under a load
// whose heat moves.
class BalancerStorm : public ::testing::TestWithParam<int> {
 protected:
  static constexpr int kNumShards = 6, kNumHomes = 4, kExperts = 12, kRoom = 3;
  struct Shard {
    bool is_up = true;
    std::set<int> copies;
    std::vector<int64_t> counted = std::vector<int64_t>(kExperts);
  };

  BalancerStorm() {
    for (int s = 0; s < kNumShards; ++s) Describe(s);
  }
  bool IsAtHome(int shard, int expert) const {
    return expert >= home_ranges_[shard].begin && expert < home_ranges_[shard].end;
  }
  bool IsServed(int expert) const {
    for (int s = 0; s < kNumHomes; ++s) {
      if (IsAtHome(s, expert)) return shards_[s].is_up;
    }
    return false;
  }
  void Describe(int s) {
    const Shard& shard = shards_[s];
    if (!shard.is_up) return membership_.OnUnreachable(s, "it is gone");
    internal::MemberDescription description;
    description.set_name(absl::StrCat("expert-", s));
    description.set_role(internal::ROLE_EXPERT);
    description.set_state(internal::MEMBER_STATE_READY);
    description.mutable_fingerprint()->set_config_hash("c0");
    int num_orphans = 0;
    internal::HeldExperts& held = *description.add_held();
    held.set_layer(kLayer);
    for (int expert = 0; expert < kExperts; ++expert) {
      if (IsAtHome(s, expert) || shard.copies.count(expert) > 0) held.add_expert(expert);
      num_orphans += shard.copies.count(expert) > 0 && !IsServed(expert);
    }
    description.mutable_heir_offer()->set_room(std::max(0, kRoom - num_orphans));
    membership_.OnDescription(s, description);
  }
  void Toggle(int s) { shards_[s] = {.is_up = !shards_[s].is_up, .copies = {}}; }
  // Rows by expert, over those that hold it.
  void Serve() {
    for (int expert = 0; expert < kExperts; ++expert) {
      std::vector<int> holders;
      for (int s = 0; s < kNumShards; ++s) {
        if (!shards_[s].is_up) continue;
        if (IsAtHome(s, expert) || shards_[s].copies.count(expert) > 0) holders.push_back(s);
      }
      for (const int s : holders) shards_[s].counted[expert] += heat_[expert] / holders.size();
    }
    for (int s = 0; s < kNumShards; ++s) {
      if (!shards_[s].is_up) continue;
      internal::RowCounts counts;
      internal::LayerRowCounts& layer = *counts.add_layer();
      layer.set_layer(kLayer);
      for (const int64_t rows : shards_[s].counted) layer.add_rows(rows);
      core_.OnRows(s, counts);
    }
  }
  void Obey(const BalanceOrder& order) {
    Shard& shard = shards_[order.member];
    EXPECT_TRUE(shard.is_up);
    std::set<int> wanted;
    for (const ExpertKey& key : order.copies) {
      EXPECT_FALSE(IsAtHome(order.member, key.expert));
      EXPECT_TRUE(wanted.insert(key.expert).second) << "named twice";
    }
    EXPECT_LE(wanted.size(), static_cast<size_t>(kRoom));
    std::erase_if(shard.copies, [&](int e) { return wanted.count(e) == 0 && IsServed(e); });
    for (const int expert : wanted) {
      if (shard.copies.size() < static_cast<size_t>(kRoom)) shard.copies.insert(expert);
    }
  }
  void Round() {
    for (int s = 0; s < kNumShards; ++s) Describe(s);
    Serve();
    for (const BalanceOrder& order : core_.Decide(membership_, now_)) Obey(order);
    now_ += absl::Seconds(10);
  }

  std::mt19937 random_{static_cast<uint32_t>(GetParam())};
  const std::vector<ExpertRange> home_ranges_ =
      HomePlacement(kExperts, {false, false, false, false, true, true});
  std::vector<Shard> shards_ = std::vector<Shard>(kNumShards);
  Membership membership_{[] {
                           std::vector<MemberInfo> members;
                           for (int s = 0; s < kNumShards; ++s) {
                             members.push_back({internal::ROLE_EXPERT, absl::StrCat("expert-", s),
                                                absl::StrCat("h:", s), s >= kNumHomes});
                           }
                           return members;
                         }(),
                         {.config_hash = "c0", .files = {}}};
  BalancerCore core_{{.self = "router-0", .num_groups = 4, .homes = [this] {
                        std::map<int, ExpertRange> homes;
                        for (int s = 0; s < kNumShards; ++s) homes[s] = home_ranges_[s];
                        return homes;
                      }()}};
  std::vector<int> heat_ = std::vector<int>(kExperts, 100);
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

TEST_P(BalancerStorm, OrdersCanAlwaysBeObeyedAndRestWhenTheLoadDoes) {
  for (int round = 0; round < 200; ++round) {
    if (random_() % 4 == 0) Toggle(static_cast<int>(random_() % kNumShards));
    if (round % 20 == 0) {
      for (int& heat : heat_)
        heat = static_cast<int>(100 + random_() % 20'000 / (1 + random_() % 20));
    }
    Round();
  }
  for (int s = 0; s < kNumShards; ++s) {
    if (!shards_[s].is_up) Toggle(s);
  }
  for (int round = 0; round < 20; ++round) Round();
  const int64_t num_moves = core_.view().num_moves();
  for (int round = 0; round < 20; ++round) Round();
  EXPECT_EQ(core_.view().num_moves(), num_moves);
  EXPECT_GE(core_.view().imbalance(), 1);
  // Without copies.
  std::vector<double> rows(kNumShards);
  for (int s = 0; s < kNumHomes; ++s) {
    for (int e = home_ranges_[s].begin; e < home_ranges_[s].end; ++e) rows[s] += heat_[e];
  }
  EXPECT_LT(core_.view().imbalance(), Imbalance({rows}));
}

INSTANTIATE_TEST_SUITE_P(Seeds, BalancerStorm, ::testing::Range(1, 51));

}  // namespace
}  // namespace orrery
