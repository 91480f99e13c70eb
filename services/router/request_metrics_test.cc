#include "services/router/request_metrics.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rpc/monitoring/metric_families.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

std::string Text(const RequestMetrics& metrics) {
  MetricFamilies families;
  metrics.AddTo(families);
  return families.ToText();
}

TEST(RefusalOf, IsTheReasonOfARequestThatEndedWithoutAToken) {
  EXPECT_EQ(RefusalOf(absl::InvalidArgumentError("top_k"), 0), Refusal::kInvalid);
  EXPECT_EQ(RefusalOf(absl::NotFoundError("model"), 0), Refusal::kInvalid);
  EXPECT_EQ(RefusalOf(absl::ResourceExhaustedError("queue"), 0), Refusal::kOverload);
  EXPECT_EQ(RefusalOf(absl::UnavailableError("rank"), 0), Refusal::kUnavailable);
}

TEST(RefusalOf, IsNoneForThoseWhoWereServedWhoLeftAndForBugs) {
  EXPECT_EQ(RefusalOf(absl::OkStatus(), 0), std::nullopt);
  EXPECT_EQ(RefusalOf(absl::UnavailableError("rank"), 1), std::nullopt);
  EXPECT_EQ(RefusalOf(absl::CancelledError(), 0), std::nullopt);
  EXPECT_EQ(RefusalOf(absl::DeadlineExceededError(""), 0), std::nullopt);
  EXPECT_EQ(RefusalOf(absl::InternalError(""), 0), std::nullopt);
}

TEST(RequestMetrics, CountARequestFromItsStartToItsEnd) {
  RequestMetrics metrics;
  metrics.OnStarted(120);
  for (int i = 0; i < 3; ++i) metrics.OnToken();
  metrics.OnFirstToken(absl::Milliseconds(80));
  metrics.OnNextToken(absl::Milliseconds(12));
  metrics.OnNextToken(absl::Milliseconds(13));
  metrics.OnEnded(absl::OkStatus(), 3, absl::Seconds(2));
  const std::string text = Text(metrics);
  for (const char* line :
       {"orrery_router_requests_total{code=\"OK\"} 1\n", "orrery_router_prompt_tokens_total 120\n",
        "orrery_router_generated_tokens_total 3\n",
        "orrery_router_time_to_first_token_seconds_count 1\n",
        "orrery_router_time_to_first_token_seconds_bucket{le=\"0.05\"} 0\n",
        "orrery_router_time_to_first_token_seconds_bucket{le=\"0.1\"} 1\n",
        "orrery_router_inter_token_latency_seconds_count 2\n",
        "orrery_router_request_seconds_sum 2\n",
        "orrery_router_refusals_total{reason=\"overload\"} 0\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(RequestMetrics, TellEveryCodeFromTheStartAndCountRefusalsBeside) {
  RequestMetrics metrics;
  EXPECT_THAT(Text(metrics), HasSubstr("{code=\"UNAUTHENTICATED\"} 0\n"));
  metrics.OnEnded(absl::ResourceExhaustedError("full"), 0, absl::Seconds(0));
  const std::string text = Text(metrics);
  EXPECT_THAT(text, HasSubstr("{code=\"RESOURCE_EXHAUSTED\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("{reason=\"overload\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("orrery_router_request_seconds_count 0\n"));
}

}  // namespace
}  // namespace orrery
