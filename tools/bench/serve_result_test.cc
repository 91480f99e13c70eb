#include "tools/bench/serve_result.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// One phase of two tenants.
ServeResult Result(double tokens_per_s) {
  ServeResult result;
  result.command = "orrery bench serve --rate=2";
  result.seed = 7;
  result.model.set_name("abacus");
  result.members.emplace_back().set_name("router-0");
  PhaseResult& phase = result.phases.emplace_back();
  phase.phase.name = "load";
  phase.phase.loads.resize(2);
  phase.phase.loads[0].tenant = "A";
  phase.phase.loads[0].rate = 2.0;
  phase.phase.loads[1].tenant = "B";
  phase.phase.loads[1].concurrency = 3;
  phase.figures.resize(2);
  phase.figures[0].output_tokens_per_s = tokens_per_s;
  phase.figures[0].ttft_ms = Summarize({10.0, 20.0});
  phase.figures[0].num_errors["RESOURCE_EXHAUSTED"] = 4;
  phase.total = phase.figures[0];
  phase.counters["preemptions"] = 5;
  result.findings.push_back({.what = "ratio", .value = 6.5, .target = "at least 6", .held = true});
  return result;
}

TEST(ServeResult, JsonHoldsEverythingThatAReaderNeeds) {
  const nlohmann::json json = nlohmann::json::parse(ToJson(Result(100.0)));
  EXPECT_EQ(json["benchmark"], "orrery bench serve");
  EXPECT_EQ(json["command"], "orrery bench serve --rate=2");
  EXPECT_EQ(json["seed"], 7);
  EXPECT_EQ(json["model"]["name"], "abacus");
  EXPECT_EQ(json["members"][0]["name"], "router-0");
  for (const char* name : {"ttft_ms", "tpot_ms", "itl_ms", "e2e_ms", "generator_cpu_cores"}) {
    EXPECT_TRUE(json["definitions"].contains(name)) << name;
  }
  const nlohmann::json& phase = json["phases"][0];
  EXPECT_EQ(phase["counters"]["preemptions"], 5);
  EXPECT_EQ(phase["loads"][0]["tenant"], "A");
  EXPECT_EQ(phase["loads"][0]["parameters"]["rate"], 2.0);
  EXPECT_EQ(phase["loads"][1]["parameters"]["concurrency"], 3);
  const nlohmann::json& figures = phase["loads"][0]["figures"];
  EXPECT_EQ(figures["errors"]["RESOURCE_EXHAUSTED"], 4);
  EXPECT_EQ(figures["ttft_ms"]["median"], 15.0);
  EXPECT_EQ(json["findings"][0]["held"], true);
}

TEST(ServeResult, ComparesFiguresOfEqualNames) {
  const auto old_figures = ReadFigures(ToJson(Result(100.0)));
  const auto new_figures = ReadFigures(ToJson(Result(200.0)));
  ASSERT_TRUE(old_figures.ok() && new_figures.ok()) << old_figures.status();
  EXPECT_EQ(old_figures->at("load / A / output_tokens_per_s"), 100.0);
  EXPECT_EQ(old_figures->at("load / A / ttft_ms.median"), 15.0);
  EXPECT_EQ(old_figures->at("load / total / ttft_ms.count"), 2.0);
  EXPECT_EQ(old_figures->at("finding / ratio"), 6.5);
  const std::string text = CompareText(*old_figures, *new_figures);
  EXPECT_THAT(text, AllOf(HasSubstr("old/new"), HasSubstr("load / A / output_tokens_per_s"),
                          HasSubstr("100          200     0.500")));
  // What is 0 in both says nothing.
  EXPECT_THAT(text, Not(HasSubstr("load / B / output_tokens_per_s")));
  EXPECT_THAT(CompareText({{"a", 1.0}}, {{"b", 1.0}}), HasSubstr("no figure is in both"));
  EXPECT_THAT(CompareText({{"a", 1.0}}, {{"a", 0.0}}), HasSubstr("        -\n"));
}

TEST(ServeResult, RefusesOtherFiles) {
  for (const char* text :
       {"", "{", "[]", "7", "{\"benchmark\": \"other\"}",
        "{\"benchmark\": \"orrery bench serve\", \"format\": 99}",
        "{\"benchmark\": \"orrery bench serve\", \"format\": 1}",
        "{\"benchmark\": \"orrery bench serve\", \"format\": 1, \"phases\": 3}"}) {
    EXPECT_EQ(ReadFigures(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(ServeResult, HoldsIfEveryFindingDoes) {
  ServeResult result = Result(1.0);
  EXPECT_TRUE(result.held());
  result.findings.push_back({.what = "x", .value = 1.0, .target = "at least 2", .held = false});
  EXPECT_FALSE(result.held());
}

}  // namespace
}  // namespace orrery
