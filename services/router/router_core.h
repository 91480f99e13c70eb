// The router's decisions without its I/O: events in, one action out.
//
//   RouterCore core({.max_open_requests = 512}, std::move(membership));
//   Action action = core.OnRequest(request, tenant);      // kStart on rank 3, or kFinish with UNAVAILABLE
//   action = core.OnToken(request);                       // kForward
//   action = core.OnFailed(request, status);              // kStart elsewhere, or kFinish
//
// A request may be started a second time, on another rank, if its first rank fails before it gave a
// token; after that it ends with the failure. (Replaying a half-told answer does not exist yet.)
//
// No clock, no threads, no gRPC: the service calls it under a mutex, tests and simulations call it
// plainly. An event for a request that is not open is a bug of the caller and crashes.
#ifndef ORRERY_SERVICES_ROUTER_ROUTER_CORE_H_
#define ORRERY_SERVICES_ROUTER_ROUTER_CORE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "services/router/membership.h"

namespace orrery {

// What the choice of a rank depends on.
struct RankSnapshot {
  bool is_usable = false;
  // Tenants other than the one that asks that have requests there, and its own requests there. As
  // far as this router knows.
  int num_other_tenants = 0;
  int num_own_requests = 0;
  // Requests that it runs or holds waiting.
  int num_requests = 0;
};
// The usable rank where the request's share is largest: a rank divides its rows evenly among tenants
// (services/attention/scheduler.h), and a tenant's part goes to its requests. With no other tenant
// there, all requests count. Of equals the one with fewer requests, then the first. None if no rank is
// usable.
std::optional<int> PickRank(absl::Span<const RankSnapshot> ranks);

struct Action {
  enum class Kind {
    kStart,    // open the sequence on `member`
    kForward,  // pass the token on
    kFinish,   // the request is over, with `status`
  };
  Kind kind = Kind::kFinish;
  int member = -1;
  absl::Status status;
};

class RouterCore {
 public:
  struct Options {
    // Requests that a tenant may have open while it is alone; more are refused with
    // RESOURCE_EXHAUSTED. There are twice as many places, and no tenant gets more than what the
    // others and it leave: dynamic thresholds, as in services/attention/engine.h.
    int max_open_requests = 0;
  };

  RouterCore(const Options& options, Membership membership);

  // --- Members ---
  void OnDescription(int member, const internal::MemberDescription& description);
  void OnUnreachable(int member, const std::string& reason);

  // From here on requests are refused; open ones go on.
  void OnStopping() { is_stopping_ = true; }

  // --- Requests: `request` is any number that is not open ---
  Action OnRequest(int64_t request, const std::string& tenant);
  // `count` more tokens came. The first one ends the second chance; the others only count, and may be
  // told together, at the latest before the request ends.
  Action OnToken(int64_t request, int64_t count = 1);
  Action OnEnded(int64_t request);
  Action OnFailed(int64_t request, const absl::Status& status);
  Action OnDeadline(int64_t request);
  Action OnCancelled(int64_t request);

  // --- What it knows ---
  // Whether a request could be answered now.
  bool IsReady() const;
  // Why not: every rank with its reason.
  std::string WhyNotReady() const;
  const Membership& membership() const { return membership_; }
  int num_open_requests() const { return static_cast<int>(requests_.size()); }
  int num_open_requests(int member) const;

 private:
  //   kStarted --token--> kStreaming --ended, failed, deadline, cancelled--> (removed)
  //       |  ^----- failed, retryable, first attempt
  //       +-------- ended, failed, deadline, cancelled ----------------------> (removed)
  enum class RequestState { kStarted, kStreaming };
  struct Request {
    RequestState state = RequestState::kStarted;
    int member = -1;
    std::string tenant;
    int num_attempts = 0;
    int64_t num_tokens = 0;
  };

  // The best rank other than `excluded`, counted for the request.
  std::optional<int> Assign(Request& request, int excluded);
  Request& Open(int64_t request);
  Action Finish(int64_t request, absl::Status status);

  const Options options_;
  Membership membership_;
  std::map<int64_t, Request> requests_;
  std::map<std::string, int> num_open_;  // by tenant
  bool is_stopping_ = false;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ROUTER_CORE_H_
