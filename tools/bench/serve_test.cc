// `orrery bench` as a shell sees it: what it prints, what its JSON holds, how it exits.
// Nothing here depends on how fast the machine is.
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/cluster/cluster_test_util.h"
#include "tools/launch/child_process.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Ran {
  int code = -1;
  std::string output;  // both streams
};

Ran Bench(const std::string& arguments) {
  static int num_runs = 0;
  const std::string log = absl::StrCat(::testing::TempDir(), "/bench-", num_runs++, ".log");
  const auto child = ChildProcess::Start(
      {"/bin/sh", "-c", absl::StrCat("exec tools/orrery bench ", arguments)}, log);
  EXPECT_TRUE(child.ok()) << child.status();
  const auto exit = (*child)->WaitUntil(absl::Now() + kPatience);
  EXPECT_TRUE(exit.has_value()) << arguments;
  return {exit.has_value() && exit->signal == 0 ? exit->code : -1, ReadFile(log)};
}

Ran BenchServe(const std::string& flags) { return Bench(absl::StrCat("serve ", flags)); }

TEST(BenchServe, MeasuresAClusterThatItStartsItself) {
  const std::string json_file = absl::StrCat(::testing::TempDir(), "/own.json");
  const std::string flags = absl::StrCat(
      "--bin_dir=. --model=models/abacus --ranks=1 --shards=2 --warmup=0s --requests=6 ",
      "--prompt_tokens=40-60 --prefix_tokens=32 --output_tokens=5-9 --json_file=", json_file,
      " '--tenants=A:concurrency=2;B:rate=50'");
  const Ran ran = BenchServe(flags);
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_THAT(ran.output,
              AllOf(HasSubstr("tenant A: closed loop, 2 at a time"), HasSubstr("6 requests: 6 ok"),
                    HasSubstr("TTFT"), HasSubstr("expert-1"), HasSubstr("definitions")));

  const nlohmann::json json = nlohmann::json::parse(ReadFile(json_file));
  EXPECT_EQ(json["members"].size(), 4);
  const nlohmann::json& phase = json["phases"][0];
  EXPECT_EQ(phase["cluster_cpu_cores"].size(), 4);
  EXPECT_EQ(phase["counters"]["kv_blocks_leaked"], 0);
  int64_t num_tokens = 0;
  for (const nlohmann::json& load : phase["loads"]) {
    EXPECT_EQ(load["figures"]["ok"], 6);
    EXPECT_EQ(load["figures"]["ttft_ms"]["count"], 6);
    EXPECT_EQ(load["figures"]["e2e_ms"]["count"], 6);
    num_tokens += 6 + load["figures"]["itl_ms"]["count"].get<int64_t>();
  }
  EXPECT_EQ(phase["total"]["requests"], 12);
  // As many tokens as asked for, whatever the model makes of such prompts.
  EXPECT_EQ(phase["counters"]["tokens_out"], num_tokens);

  const Ran again = BenchServe(absl::StrCat(flags, " --compare=", json_file));
  EXPECT_EQ(again.code, 0) << again.output;
  EXPECT_THAT(again.output, AllOf(HasSubstr("old/new"), HasSubstr("load / A / ttft_ms.p99")));
}

TEST(BenchServe, MeasuresARunningClusterAndLeavesItRunning) {
  const auto cluster = StartReady(AbacusTopology(1, 1));
  ASSERT_NE(cluster, nullptr);
  const std::string router = absl::StrCat("--router=", cluster->router_address());
  const Ran ran = BenchServe(
      absl::StrCat(router, " --warmup=0s --requests=3 --concurrency=1 --output_tokens=4"));
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("3 requests: 3 ok"));
  // The targets are about time only in part; that it runs through is what counts here.
  const Ran scenario = BenchServe(absl::StrCat(router, " --scenario=prefix --rounds=1"));
  EXPECT_THAT(scenario.output, AllOf(HasSubstr("second request with it"), HasSubstr("target:")));
  // The same prompts again are in the cache; those of the seed beside it are others.
  const Ran again = BenchServe(absl::StrCat(router, " --scenario=prefix --rounds=1"));
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.output, HasSubstr("say another --seed"));
  EXPECT_THAT(BenchServe(absl::StrCat(router, " --scenario=prefix --rounds=1 --seed=1")).output,
              HasSubstr("target:"));
  EXPECT_TRUE(cluster->CheckAlive().ok());
}

TEST(BenchServe, WrongFlagsAreRefusedBeforeAnythingStarts) {
  for (const auto& [arguments, expected] :
       {std::pair{"serve --rate=1 --concurrency=1", "--concurrency (closed loop) or --rate"},
        {"serve --scenario=chaos", "must be one of batch"},
        {"serve --scenario=batch --rate=1", "--rate cannot be said"},
        {"serve --scenario=prefix --concurrency=2", "it takes --rounds"},
        {"serve --tenants=A:speed=1", "tenant A, \"speed=1\""},
        {"serve --max_new_tokens=5", "--output_tokens"},
        {"serve --prompt_tokens=0", "\"0\" must be a number"},
        {"serve --bin_dir=. --model=models/abacus --precision=fp4", "bf16, f32"},
        {"serve --concurency=1", "unknown flag"},
        {"step --rate=1", "`orrery bench step` has no use for --rate"},
        {"step --model=models/abacus --precision=fp4", "use bf16 or f32"},
        {"stop", "orrery bench serve"}}) {
    const Ran ran = Bench(arguments);
    EXPECT_EQ(ran.code, 2) << arguments;
    EXPECT_THAT(ran.output, HasSubstr(expected)) << arguments;
  }
  const Ran no_file = BenchServe("--compare=/nowhere.json");
  EXPECT_EQ(no_file.code, 1);
  EXPECT_THAT(no_file.output, HasSubstr("/nowhere.json"));
}

}  // namespace
}  // namespace orrery
