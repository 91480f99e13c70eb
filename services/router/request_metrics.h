// What a router measures of its requests, for the monitoring port.
//
//   metrics.OnStarted(/*prompt_tokens=*/120);
//   metrics.OnToken();                               // each, and of these:
//   metrics.OnFirstToken(absl::Milliseconds(80));    // since the request arrived
//   metrics.OnNextToken(absl::Milliseconds(12));     // since the token before, of its choice
//   metrics.OnEnded(status, /*num_tokens=*/34, absl::Seconds(2));
//   metrics.AddTo(families);
//
// Threads: any, without locks.
#ifndef ORRERY_SERVICES_ROUTER_REQUEST_METRICS_H_
#define ORRERY_SERVICES_ROUTER_REQUEST_METRICS_H_

#include <array>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "base/status.h"
#include "rpc/monitoring/instruments.h"

namespace orrery {

class MetricFamilies;

enum class Refusal {
  kInvalid,      // the client's mistake
  kOverload,     // queues are full, here or at the ranks
  kUnavailable,  // no rank is ready, or the router stops
};
inline constexpr int kNumRefusals = 3;
// Whether a request that ended so was turned away, and why. Nobody who got a token was, nor who left.
std::optional<Refusal> RefusalOf(const absl::Status& status, int64_t num_tokens);

class RequestMetrics {
 public:
  void OnStarted(int64_t prompt_tokens) { prompt_tokens_.Add(prompt_tokens); }
  void OnToken() { generated_tokens_.Add(); }
  void OnFirstToken(absl::Duration after);
  void OnNextToken(absl::Duration after);
  void OnEnded(const absl::Status& status, int64_t num_tokens, absl::Duration after);

  void AddTo(MetricFamilies& families) const;

 private:
  static constexpr int kNumCodes = 17;  // of gRPC, from OK to UNAUTHENTICATED

  std::array<Counter, kNumCodes> ended_;  // by code
  std::array<Counter, kNumRefusals> refused_;
  Counter prompt_tokens_;
  Counter generated_tokens_;
  Histogram first_token_seconds_{OneTwoFive(-3, 3)};
  Histogram next_token_seconds_{OneTwoFive(-3, 2)};
  Histogram request_seconds_{OneTwoFive(-2, 4)};
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_REQUEST_METRICS_H_
