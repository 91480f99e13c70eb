#include "tools/bench/figures.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

// The window is [10 s, 20 s).
const Window kWindow = {.begin = At(10), .end = At(20)};

RequestRecord Request(double arrival, std::vector<double> tokens, double end) {
  RequestRecord record;
  record.arrival = At(arrival);
  record.sent = At(arrival);
  for (const double token : tokens) record.tokens.push_back(At(token));
  record.end = At(end);
  record.prompt_tokens = 100;
  record.usage.set_prompt_tokens(100);
  record.is_measured = kWindow.Contains(record.arrival);
  return record;
}

TEST(Figures, LatenciesFollowTheirDefinitions) {
  LoadRecord load;
  load.requests = {Request(11, {11.5, 11.6, 11.8}, 11.9)};
  load.requests[0].sent = At(11.25);
  const Figures figures = FiguresOf(load, kWindow);
  EXPECT_EQ(figures.num_requests, 1);
  EXPECT_EQ(figures.num_ok, 1);
  EXPECT_NEAR(figures.ttft_ms.mean, 500, 1e-6);
  EXPECT_NEAR(figures.tpot_ms.mean, 200, 1e-6);  // (900 - 500) / 2
  EXPECT_EQ(figures.itl_ms.count, 2);
  EXPECT_NEAR(figures.itl_ms.mean, 150, 1e-6);
  EXPECT_NEAR(figures.e2e_ms.mean, 900, 1e-6);
  EXPECT_NEAR(figures.start_delay_ms.mean, 250, 1e-6);
}

// One request from before the window, one in it, one that ends after it.
TEST(Figures, RatesCountWhatHappensInTheWindow) {
  LoadRecord load;
  load.requests = {Request(5, {9, 11, 12}, 12), Request(13, {14, 15}, 15),
                   Request(19, {19.5, 21}, 21)};
  const Figures figures = FiguresOf(load, kWindow);
  EXPECT_DOUBLE_EQ(figures.requests_per_s, 0.2);
  EXPECT_DOUBLE_EQ(figures.input_tokens_per_s, 20);  // first tokens at 14 and 19.5
  EXPECT_DOUBLE_EQ(figures.output_tokens_per_s, 0.5);
  EXPECT_EQ(figures.itl_ms.count, 2);  // 11 to 12, 14 to 15
  EXPECT_EQ(figures.num_requests, 2);
  EXPECT_EQ(figures.e2e_ms.count, 2);
}

TEST(Figures, ErrorsAndCutRequestsHaveNoLatency) {
  LoadRecord load;
  load.num_unsent = 3;
  load.requests = {Request(11, {}, 11), Request(12, {}, 12), Request(13, {14}, 15)};
  load.requests[0].status = absl::ResourceExhaustedError("full");
  load.requests[1].status = absl::ResourceExhaustedError("full");
  load.requests[2].status = absl::CancelledError("");
  load.requests[2].was_cut = true;
  const Figures figures = FiguresOf(load, kWindow);
  EXPECT_THAT(figures.num_errors, ElementsAre(Pair("RESOURCE_EXHAUSTED", 2)));
  EXPECT_EQ(figures.first_error, "RESOURCE_EXHAUSTED: full");
  EXPECT_EQ(figures.num_cut, 1);
  EXPECT_EQ(figures.num_ok, 0);
  EXPECT_EQ(figures.num_unsent, 3);
  EXPECT_EQ(figures.e2e_ms.count, 0);
  EXPECT_EQ(figures.ttft_ms.count, 1);  // its first token had come
  EXPECT_EQ(figures.requests_per_s, 0.0);
}

TEST(Figures, SharesComeFromTheUsageAndLoadsAddUp) {
  std::vector<LoadRecord> loads(2);
  loads[0].requests = {Request(11, {12}, 12)};
  loads[0].requests[0].usage.set_cached_prompt_tokens(75);
  loads[0].requests[0].usage.set_drafted_tokens(10);
  loads[0].requests[0].usage.set_accepted_draft_tokens(7);
  loads[1].requests = {Request(11, {13}, 13)};
  EXPECT_DOUBLE_EQ(FiguresOf(loads[0], kWindow).cached_prompt_share, 0.75);
  const Figures total = FiguresOf(loads, kWindow);
  EXPECT_DOUBLE_EQ(total.cached_prompt_share, 0.375);
  EXPECT_DOUBLE_EQ(total.draft_acceptance, 0.7);
  EXPECT_EQ(total.num_ok, 2);
  EXPECT_THAT(TtftMs(loads[1], kWindow), ElementsAre(2000.0));
}

TEST(Figures, ARequestThatWasCutBeforeItsFirstTokenHasWaitedAtLeastSoLong) {
  LoadRecord load;
  load.requests = {Request(11, {12}, 20), Request(14, {}, 20), Request(15, {}, 16),
                   Request(9, {}, 20)};
  load.requests[0].was_cut = load.requests[1].was_cut = load.requests[3].was_cut = true;
  load.requests[2].status = absl::ResourceExhaustedError("full");
  EXPECT_THAT(TtftMs(load, kWindow), ElementsAre(1000.0, 6000.0));
}

TEST(Figures, OfNothingAreZero) {
  const Figures figures = FiguresOf(LoadRecord(), {.begin = At(1), .end = At(1)});
  EXPECT_EQ(figures.requests_per_s, 0.0);
  EXPECT_EQ(figures.draft_acceptance, 0.0);
}

}  // namespace
}  // namespace orrery
