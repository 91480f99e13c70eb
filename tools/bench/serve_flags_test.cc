#include "tools/bench/serve_flags.h"

#include "absl/flags/reflection.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/flags/command_line.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

class ServeFlagsTest : public ::testing::Test {
 protected:
  // Flags are as they come at the beginning of every test.
  static void Parse(const std::vector<std::string>& arguments) {
    const auto rest = ParseFlags(arguments, {kServeFlags});
    ASSERT_TRUE(rest.ok()) << rest.status();
  }
  static std::string ErrorOf(const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }
  const absl::FlagSaver saver_;
};

TEST_F(ServeFlagsTest, WithoutAnyAFewClientsRunForAWhile) {
  const auto phase = PhaseFromFlags();
  ASSERT_TRUE(phase.ok()) << phase.status();
  ASSERT_EQ(phase->loads.size(), 1);
  EXPECT_EQ(phase->loads[0].concurrency, 8);
  EXPECT_EQ(phase->duration, absl::Seconds(10));
  EXPECT_EQ(phase->num_requests, 0);
  EXPECT_TRUE(CheckLoad(phase->loads[0], 4096).ok());
}

TEST_F(ServeFlagsTest, ARateMakesAnOpenLoop) {
  Parse({"--rate=2.5", "--requests=30", "--prompt_tokens=64-512", "--output_tokens=8",
         "--prefix_tokens=32", "--num_prefixes=4", "--arrivals=regular"});
  const auto phase = PhaseFromFlags();
  ASSERT_TRUE(phase.ok()) << phase.status();
  const Load& load = phase->loads[0];
  EXPECT_EQ(load.rate, 2.5);
  EXPECT_EQ(load.concurrency, 0);
  EXPECT_EQ(load.limit(), 256);
  EXPECT_EQ(load.arrivals, Arrivals::kRegular);
  EXPECT_EQ(load.prompt_tokens.ToString(), "64-512");
  EXPECT_EQ(load.prefix_tokens, 32);
  EXPECT_EQ(phase->num_requests, 30);
  EXPECT_EQ(phase->duration, absl::ZeroDuration());
}

TEST_F(ServeFlagsTest, TenantsInheritTheOtherFlags) {
  Parse({"--concurrency=3", "--output_tokens=9", "--tenants=A:rate=1;B:output=7"});
  const auto phase = PhaseFromFlags();
  ASSERT_TRUE(phase.ok()) << phase.status();
  ASSERT_EQ(phase->loads.size(), 2);
  EXPECT_EQ(phase->loads[0].output_tokens.ToString(), "9");
  EXPECT_EQ(phase->loads[1].output_tokens.ToString(), "7");
  EXPECT_EQ(phase->loads[1].concurrency, 3);
}

TEST_F(ServeFlagsTest, ContradictionsAreRefused) {
  Parse({"--concurrency=3", "--rate=2"});
  EXPECT_THAT(ErrorOf(PhaseFromFlags().status()), HasSubstr("--concurrency (closed loop) or"));
  Parse({"--concurrency=0", "--requests=2", "--duration=5s"});
  EXPECT_THAT(ErrorOf(PhaseFromFlags().status()), HasSubstr("--requests or --duration"));
  Parse({"--requests=0", "--warmup=-1s"});
  EXPECT_THAT(ErrorOf(PhaseFromFlags().status()), HasSubstr("cannot be negative"));
  Parse({"--warmup=0s", "--prompt_tokens=many"});
  EXPECT_THAT(ErrorOf(PhaseFromFlags().status()), HasSubstr("\"many\""));
  Parse({"--prompt_tokens=1", "--arrivals=late"});
  EXPECT_THAT(ErrorOf(PhaseFromFlags().status()), HasSubstr("poisson or regular"));
  Parse({"--arrivals=poisson", "--rounds=2"});
  EXPECT_THAT(ErrorOf(PhaseFromFlags().status()), HasSubstr("--scenario"));
}

TEST_F(ServeFlagsTest, AScenarioTakesOnlyWhatItUses) {
  const Scenario batch = *FindScenario("batch"), prefix = *FindScenario("prefix"),
                 disconnect = *FindScenario("disconnect");
  Parse({"--rounds=2"});
  EXPECT_EQ(ScenarioOptionsFromFlags(prefix)->rounds, 2);
  Parse({"--concurrency=16"});
  EXPECT_EQ(ScenarioOptionsFromFlags(disconnect)->concurrency, 16);
  EXPECT_THAT(ErrorOf(ScenarioOptionsFromFlags(prefix).status()),
              HasSubstr("--concurrency cannot be said with --scenario=prefix"));
  Parse({"--duration=5s"});
  EXPECT_EQ(ScenarioOptionsFromFlags(batch)->duration, absl::Seconds(5));
  EXPECT_THAT(ErrorOf(ScenarioOptionsFromFlags(disconnect).status()),
              HasSubstr("it takes --rounds, --concurrency"));
  Parse({"--prompt_tokens=100"});
  EXPECT_THAT(ErrorOf(ScenarioOptionsFromFlags(batch).status()),
              HasSubstr("--prompt_tokens cannot be"));
}

TEST_F(ServeFlagsTest, ScenariosHaveNames) {
  for (const char* name : {"batch", "stall", "tenants", "prefix", "disconnect"}) {
    EXPECT_TRUE(FindScenario(name).ok()) << name;
  }
  EXPECT_THAT(ErrorOf(FindScenario("chaos").status()), HasSubstr("batch, stall, tenants"));
}

TEST_F(ServeFlagsTest, TheCommandIsToldWithWhatDiffersFromTheDefaults) {
  EXPECT_EQ(CommandFromFlags({kServeFlags}), "orrery bench serve");
  Parse({"--rate=2", "--requests=30"});
  EXPECT_EQ(CommandFromFlags({kServeFlags}), "orrery bench serve --rate=2 --requests=30");
  Parse({"--rate=0", "--requests=0", "--tenants=A:rate=1;it's", "--compare=/a b/$c"});
  EXPECT_EQ(CommandFromFlags({kServeFlags}),
            R"(orrery bench serve --compare='/a b/$c' --tenants='A:rate=1;it'\''s')");
}

}  // namespace
}  // namespace orrery
