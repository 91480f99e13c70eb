// What a load generator is asked to send: streams of requests, each with its own tenant, its own
// way of arriving and its own lengths.
//
//   ASSIGN_OR_RETURN(std::vector<Load> loads, ParseTenants("A:rate=40;B:rate=1", defaults));
//   RETURN_IF_ERROR(CheckLoad(loads[0], model.max_context_tokens()));
//
// Closed loop: `concurrency` clients, each of which sends its next request when its last answer has
// ended. Open loop: requests arrive at a rate, whether or not earlier ones were answered.
//
// Pure. Errors: INVALID_ARGUMENT with what, which value and which limit.
#ifndef ORRERY_TOOLS_BENCH_LOAD_H_
#define ORRERY_TOOLS_BENCH_LOAD_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"

namespace orrery {

// Both ends belong to it; a length is drawn uniformly.
struct TokenRange {
  int min = 0;
  int max = 0;
  // "64", or "64-512".
  std::string ToString() const;
};

enum class Arrivals { kPoisson, kRegular };

struct Load {
  // Where it goes, without TLS; empty: to the router.
  std::string address;
  std::string tenant;
  int priority = 0;

  // One of the two is set.
  int concurrency = 0;  // closed loop
  double rate = 0.0;    // open loop: requests per second
  Arrivals arrivals = Arrivals::kPoisson;
  // Open loop: more than so many are never open; what arrives meanwhile starts late.
  int max_concurrency = 256;

  // Of the whole prompt, prefix included.
  TokenRange prompt_tokens;
  TokenRange output_tokens;
  // Every prompt begins with one of so many common prefixes. Prefixes of all tenants are the same.
  int prefix_tokens = 0;
  int num_prefixes = 1;

  // If positive, each request has so long; else as long as the generator waits.
  absl::Duration deadline;
  // If positive, every client goes away at a moment drawn from so long after its request.
  absl::Duration disconnect_within;
  // Without, clients take no message before they go away.
  bool reads = true;

  bool is_open() const { return rate > 0.0; }
  // How many requests may be open.
  int limit() const { return is_open() ? max_concurrency : concurrency; }
};

absl::StatusOr<TokenRange> ParseTokenRange(const std::string& text);
absl::StatusOr<Arrivals> ParseArrivals(const std::string& text);

// NAME:key=value,key=value;NAME:... with the keys rate, concurrency, prompt, output, prefix,
// prefixes, priority, arrivals and max_concurrency. What is not said is as in `defaults`; saying a
// rate takes away the concurrency, and the other way round.
absl::StatusOr<std::vector<Load>> ParseTenants(const std::string& text, const Load& defaults);

absl::Status CheckLoad(const Load& load, int max_context_tokens);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_LOAD_H_
