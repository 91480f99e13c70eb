// The scenarios of `orrery chaos`, a few faults of each: no answer may end with an error, or differ from
// the undisturbed one.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/cluster_test_util.h"
#include "tools/chaos/chaos_run.h"

namespace orrery {
namespace {

void Survives(const std::string& scenario, int num_faults) {
  ChaosOptions options;
  options.scenario = *FindChaosScenario(scenario);
  options.num_faults = num_faults;
  options.victim.topology = AbacusTopology(1, 1);
  options.victim.launch = TestLaunchOptions();
  options.victim.patience = kPatience;
  options.victim.seed = 1;
  options.on_fault = [](int fault, const std::string& what, absl::Duration) {
    std::fprintf(stderr, "fault %d: %s\n", fault, what.c_str());
  };
  const absl::StatusOr<ChaosReport> report = RunChaos(options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->all_well()) << ReportText(*report);
  EXPECT_GT(report->streams.num_answers, 0);
}

TEST(Chaos, ScenariosHaveNames) {
  EXPECT_TRUE(FindChaosScenario("kill_shard").ok());
  EXPECT_THAT(std::string(FindChaosScenario("flood").status().message()),
              testing::HasSubstr("there are kill_shard, "));
}

TEST(Chaos, ShardsAreKilled) { Survives("kill_shard", 10); }
TEST(Chaos, RanksAreKilled) { Survives("kill_rank", 10); }
TEST(Chaos, RoutersAreKilled) { Survives("kill_router", 5); }
TEST(Chaos, ShardsAreStopped) { Survives("stop_shard", 5); }
TEST(Chaos, ShardsAreKilledWhoseExpertsASpareHolds) { Survives("kill_held_shard", 3); }
TEST(Chaos, ShardsAreStoppedWhoseExpertsASpareHolds) { Survives("stop_held_shard", 3); }
TEST(Chaos, TheNetworkIsHarmed) { Survives("network", 12); }
TEST(Chaos, AShardThatFlipsBitsIsFoundAndNoAnswerDiffers) { Survives("bit_flip", 1); }
TEST(Chaos, EverythingIsRestarted) { Survives("rolling_restart", 1); }
TEST(Chaos, CopiesMoveAndSparesComeAndGo) { Survives("placements", 1); }
TEST(Chaos, SkewedLoadIsBalanced) { Survives("zipf", 1); }

}  // namespace
}  // namespace orrery
