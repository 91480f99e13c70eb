#include "tools/bench/report.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

PhaseResult Result() {
  PhaseResult result;
  result.phase.name = "load";
  Load load;
  load.tenant = "A";
  load.rate = 2.5;
  load.prompt_tokens = {.min = 64, .max = 512};
  load.output_tokens = {.min = 8, .max = 8};
  load.prefix_tokens = 32;
  load.num_prefixes = 4;
  result.phase.loads = {load};
  Figures figures;
  figures.num_requests = 12;
  figures.num_ok = 8;
  figures.num_errors["UNAVAILABLE"] = 4;
  figures.first_error = "UNAVAILABLE: no rank is ready";
  figures.output_tokens_per_s = 123.4;
  figures.ttft_ms = Summarize({5.0});
  result.figures = {figures};
  result.generator_cpu_cores = 0.125;
  result.cluster_cpu_cores["router-0"] = 0.5;
  result.counters["preemptions"] = 3;
  return result;
}

TEST(Report, TellsLoadFiguresErrorsProcessorsAndCounters) {
  EXPECT_THAT(
      PhaseText(Result()),
      AllOf(HasSubstr("tenant A: open loop, 2.5 requests/s (Poisson), prompts of 64-512 "
                      "tokens that begin with one of 4 prefixes of 32, answers of 8"),
            HasSubstr("12 requests: 8 ok, 4 UNAVAILABLE\n"),
            HasSubstr("first error: UNAVAILABLE: no rank is ready"), HasSubstr("123.4 tokens out"),
            HasSubstr("generator 0.12, router-0 0.50"), HasSubstr("preemptions 3"),
            Not(HasSubstr("all together")), Not(HasSubstr("drafts"))));
}

TEST(Report, SeveralLoadsAlsoHaveATotal) {
  PhaseResult result = Result();
  result.phase.loads.push_back(result.phase.loads[0]);
  result.figures.push_back(result.figures[0]);
  result.total.num_requests = 24;
  EXPECT_THAT(PhaseText(result), AllOf(HasSubstr("all together\n  24 requests")));
}

TEST(Report, ALineTellsAPhaseInShortAndOnlyWhatWasSeen) {
  PhaseResult result = Result();
  result.figures[0].ttft_ms = Summarize({4.0, 8.0});
  EXPECT_EQ(PhaseLine(result),
            "load: A                               123.4 tokens/s out, TTFT 6.0 / 8.0, ITL -; "
            "12 requests: 8 ok, 4 UNAVAILABLE\n");
  result.figures[0] = Figures();
  EXPECT_THAT(PhaseLine(result), HasSubstr("no request began"));
}

TEST(Report, AFindingSaysWhetherItsTargetHeld) {
  EXPECT_EQ(FindingText({.what = "ratio", .value = 6.5, .target = "at least 6", .held = true}),
            "held    ratio: 6.5 (target: at least 6)\n");
  EXPECT_EQ(FindingText({.what = "ratio", .value = 5.5, .target = "at least 6", .held = false}),
            "MISSED  ratio: 5.5 (target: at least 6)\n");
  EXPECT_EQ(FindingText({.what = "capacity", .value = 12345, .target = "", .held = true}),
            "        capacity: 12345\n");
}

TEST(Report, EveryFigureHasADefinition) {
  for (const char* name : {"TTFT", "time per output token", "inter-token latency", "latency: "}) {
    EXPECT_THAT(DefinitionsText(), HasSubstr(name));
  }
}

}  // namespace
}  // namespace orrery
