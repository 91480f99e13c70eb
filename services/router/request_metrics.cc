#include "services/router/request_metrics.h"

#include "rpc/monitoring/metric_families.h"

namespace orrery {
namespace {

const char* Name(Refusal refusal) {
  switch (refusal) {
    case Refusal::kInvalid:
      return "invalid";
    case Refusal::kOverload:
      return "overload";
    case Refusal::kUnavailable:
      break;
  }
  return "unavailable";
}

}  // namespace

std::optional<Refusal> RefusalOf(const absl::Status& status, int64_t num_tokens) {
  if (num_tokens > 0) return std::nullopt;
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return Refusal::kInvalid;
    case absl::StatusCode::kResourceExhausted:
      return Refusal::kOverload;
    case absl::StatusCode::kUnavailable:
      return Refusal::kUnavailable;
    default:
      return std::nullopt;
  }
}

void RequestMetrics::OnFirstToken(absl::Duration after) {
  first_token_seconds_.Observe(absl::ToDoubleSeconds(after));
}

void RequestMetrics::OnNextToken(absl::Duration after) {
  next_token_seconds_.Observe(absl::ToDoubleSeconds(after));
}

void RequestMetrics::OnEnded(const absl::Status& status, int64_t num_tokens, absl::Duration after) {
  ended_[static_cast<int>(status.code())].Add();
  if (num_tokens > 0) request_seconds_.Observe(absl::ToDoubleSeconds(after));
  if (const std::optional<Refusal> refusal = RefusalOf(status, num_tokens)) {
    refused_[static_cast<int>(*refusal)].Add();
  }
}

void RequestMetrics::AddTo(MetricFamilies& families) const {
  const auto add = [&](const char* name, const char* help, const Counter& counter,
                       const MetricLabels& labels = {}) {
    families.AddCounter(name, help, static_cast<double>(counter.value()), labels);
  };
  for (int code = 0; code < kNumCodes; ++code) {
    add("orrery_router_requests_total", "Requests that ended, by status.", ended_[code],
        {{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}});
  }
  for (int refusal = 0; refusal < kNumRefusals; ++refusal) {
    add("orrery_router_refusals_total", "Requests turned away without a token.", refused_[refusal],
        {{"reason", Name(static_cast<Refusal>(refusal))}});
  }
  add("orrery_router_prompt_tokens_total", "Prompt tokens of requests that were started.",
      prompt_tokens_);
  add("orrery_router_generated_tokens_total", "Tokens passed on to clients.", generated_tokens_);
  families.AddHistogram("orrery_router_time_to_first_token_seconds",
                        "From a request's arrival to its first token.",
                        first_token_seconds_.Read());
  families.AddHistogram("orrery_router_inter_token_latency_seconds",
                        "Between two tokens of a choice.", next_token_seconds_.Read());
  families.AddHistogram("orrery_router_request_seconds",
                        "From a request's arrival to its end, of those that got a token.",
                        request_seconds_.Read());
}

}  // namespace orrery
