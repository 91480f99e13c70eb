// The router's decisions without its I/O: events in, one action out.
//
//   RouterCore core({.max_open_requests = 512}, std::move(membership));
//   Action action = core.OnRequest(request, tenant);      // kStart on rank 3, or kFinish with UNAVAILABLE
//   action = core.OnToken(request);                       // kForward
//   action = core.OnFailed(request, status);              // kStart elsewhere as a replay, kWait, or kFinish
//   action = core.OnRetry(request);                       // after kWait: kStart, kWait again, or kFinish
//
// A request that was started is not lost with its rank: it is replayed on another one, with what has come
// of it, and if there is none it waits for one, as long as its deadline allows. Ranks that fail it in a
// row without a token in between are counted; max_attempts of them end it. A rank that is full before
// anything was started is another matter: one other is tried, then the client hears of it. A rank that refuses for
// want of time says how long it would have taken. Until something ends there, or it describes itself again, its
// tenant's next requests with less time than that are not sent there: in a flood, most refusals cost the rank nothing.
//
// A replay stays with its model: a rank that serves another by then does not get it. New requests get the
// model of the cluster; a retiring rank (membership.h) gets only what was begun with its own.
//
// No clock, no threads, no gRPC: the service calls it under a mutex, tests and simulations call it
// plainly. An event for a request that is not open is a bug of the caller and crashes.
#ifndef ORRERY_SERVICES_ROUTER_ROUTER_CORE_H_
#define ORRERY_SERVICES_ROUTER_ROUTER_CORE_H_

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
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
    kWait,     // no rank can take it now: OnRetry after `delay`
    kFinish,   // the request is over, with `status`
  };
  Kind kind = Kind::kFinish;
  int member = -1;
  // kStart: with what has come so far, and beyond the rank's queue.
  bool is_replay = false;
  absl::Duration delay;
  absl::Status status;
};

class RouterCore {
 public:
  struct Options {
    // Requests that a tenant may have open while it is alone; more are refused with
    // RESOURCE_EXHAUSTED. There are twice as many places, and no tenant gets more than what the
    // others and it leave: dynamic thresholds, as in services/attention/engine.h. Resumed requests
    // have as many places again, of which anyone may have all.
    int max_open_requests = 0;
    // What they may hold of memory, all together (open_request_bytes.h); no tenant takes more than it leaves.
    // Resumed requests have as much again.
    int64_t max_request_bytes = std::numeric_limits<int64_t>::max();
    // Of the process, for its description.
    int64_t needed_bytes = 0;
    int64_t budget_bytes = 0;
    // Ranks that may fail a request in a row, without a token in between.
    int max_attempts = 8;
  };

  RouterCore(const Options& options, Membership membership);

  // --- Members ---
  void OnDescription(int member, const internal::MemberDescription& description);
  void OnUnreachable(int member, const std::string& reason);

  // How evenly the shards are used, if this router balances them; nullopt if another one does.
  void OnBalanced(std::optional<internal::BalanceView> balance) { balance_ = std::move(balance); }

  // From here on requests are refused; open ones go on.
  void OnStopping() { is_stopping_ = true; }

  // --- Requests: `request` is any number that is not open; it may hold num_bytes ---
  // time_left: until its deadline.
  Action OnRequest(int64_t request, const std::string& tenant, int64_t num_bytes = 0,
                   absl::Duration time_left = absl::InfiniteDuration());
  // An answer that was begun elsewhere, with this model: FAILED_PRECONDITION if no rank serves it.
  Action OnResumed(int64_t request, const std::string& tenant, const ModelIdentity& model,
                   int64_t num_bytes = 0);
  // `count` more tokens came. Any number may be told together, at the latest before the request fails or
  // ends.
  Action OnToken(int64_t request, int64_t count = 1);
  Action OnEnded(int64_t request);
  Action OnFailed(int64_t request, const absl::Status& status);
  Action OnRetry(int64_t request);
  Action OnDeadline(int64_t request);
  Action OnCancelled(int64_t request);
  // The client does not take what there is.
  Action OnStalled(int64_t request);
  // The client continues it by another call.
  Action OnSuperseded(int64_t request);

  // --- What it knows ---
  // Whether a new request could be answered now.
  bool IsReady() const;
  bool is_stopping() const { return is_stopping_; }
  // Of a request that has a rank: which model it is answered with.
  const std::shared_ptr<const ModelIdentity>& model_of(int64_t request) const {
    return requests_.at(request).model;
  }
  // Why not: every rank that could, with its reason.
  std::string WhyNotReady() const;
  const Options& options() const { return options_; }
  const Membership& membership() const { return membership_; }
  const std::optional<internal::BalanceView>& balance() const { return balance_; }
  int num_open_requests() const { return static_cast<int>(requests_.size()); }
  int num_open_requests(int member) const;
  // Since the start, how often a request was started again because its rank was lost.
  int64_t num_replays() const { return num_replays_; }

 private:
  //   (new) --no rank is usable now--> kWaiting, for a while
  //   kRunning --failed--> kWaiting --a rank is usable--> kRunning
  //       |  ^--failed, another rank is usable--+
  //       +--- any: ended, failed for good, deadline, cancelled ---> (removed)
  enum class RequestState { kRunning, kWaiting };
  struct Request {
    RequestState state = RequestState::kRunning;
    int member = -1;  // the last one it was started on; -1: none yet
    std::string tenant;
    int64_t num_bytes = 0;
    absl::Duration time_left = absl::InfiniteDuration();  // when it came
    bool is_resumed = false;                              // holds a place of those
    // Whether a rank may have begun it: it is replayed from then on, and no rank's queue refuses it.
    bool is_begun = false;
    std::shared_ptr<const ModelIdentity> model;  // null until a new request has a rank
    bool is_counted = false;                     // in running_
    int num_failures = 0;                        // since the last token
    int num_waits = 0;                           // since the last token
    std::vector<int> full_ranks;                 // that had no room for it since it waited last
    bool was_refused = false;
    int64_t num_tokens = 0;
    absl::Status last_failure;
  };

  // Open requests that hold a place together.
  struct Opened {
    int num = 0;
    int64_t num_bytes = 0;
  };

  // A place and its memory, or why there is none.
  absl::Status CheckSize(int64_t num_bytes) const;  // whether it fits at any time
  absl::Status CheckPlace(const std::string& tenant, int64_t num_bytes) const;
  absl::Status CheckResumedPlace(int64_t num_bytes) const;
  // Whether one of the usable ranks may be done with it in time, as far as they said; if none, why not.
  absl::Status CheckTime(const Request& request) const;
  // How long a request of its tenant would take there, if the rank has said so lately.
  std::optional<absl::Duration> NeededTime(const Request& request, int member) const;
  bool MayBeInTime(const Request& request, int member) const;
  void ForgetNeededTime(int member);
  Action Open(int64_t number, Request request);
  // On the best rank other than `excluded`; else it waits.
  Action StartOrWait(Request& request, const std::vector<int>& excluded);
  Action Wait(Request& request);
  // The best rank other than `excluded`, counted for the request.
  std::optional<int> Assign(Request& request, const std::vector<int>& excluded);
  bool IsUsable(const Request& request, int member) const;
  // Why none is: of each rank that might have been.
  std::string WhyNoRank(const Request& request) const;
  // The request among those that its rank has, or no longer.
  void Count(Request& request);
  void Uncount(Request& request);
  Request& Find(int64_t request);
  Action Finish(int64_t request, absl::Status status);

  const Options options_;
  Membership membership_;
  std::optional<internal::BalanceView> balance_;
  std::map<int64_t, Request> requests_;
  std::map<int, std::map<std::string, int>> running_;  // how many a rank has, by rank and by tenant
  std::map<std::string, Opened> opened_;               // by tenant, without resumed ones
  int64_t opened_bytes_ = 0;                           // of all of these
  Opened resumed_;
  // By rank, and by tenant: how long another request would take, when one was refused.
  std::map<int, std::map<std::string, absl::Duration>> needed_time_;
  int64_t num_replays_ = 0;
  bool is_stopping_ = false;
  bool was_ready_ = false;  // at any time
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ROUTER_CORE_H_
