#include "services/router/router_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/refusal_times.h"

namespace orrery {
namespace {

// How long a request waits before it asks for a rank again: short while it may be a matter of moments,
// then about as often as members are looked at.
constexpr absl::Duration kFirstDelay = absl::Milliseconds(20);
constexpr absl::Duration kLongestDelay = absl::Milliseconds(250);
// How often a request asks for its first rank, which is some ten seconds: ranks may all be away for moments, as when two
// shards are lost within a second.
constexpr int kMaxOpeningWaits = 44;
// For who finds no place here. How fast places become free only ranks could tell.
constexpr absl::Duration kRetryAfter = absl::Seconds(1);
// For whom a rank would be too late: as it would say itself.
constexpr absl::Duration kLeastRetryAfter = absl::Milliseconds(100);
constexpr absl::Duration kMostRetryAfter = absl::Seconds(60);

absl::Status Full(const std::string& message) {
  return WithRetryAfter(absl::ResourceExhaustedError(message), kRetryAfter);
}

absl::Status Stopping() {
  return absl::UnavailableError("this router is stopping; ask another one");
}

Action StartOn(int member, bool is_replay) {
  Action action;
  action.kind = Action::Kind::kStart;
  action.member = member;
  action.is_replay = is_replay;
  return action;
}

Action FinishWith(absl::Status status) {
  Action action;
  action.status = std::move(status);
  return action;
}

}  // namespace

std::optional<int> PickRank(absl::Span<const RankSnapshot> ranks) {
  // In how many parts the rank is divided, of which the request gets one; then its load.
  const auto rank_order = [](const RankSnapshot& rank) {
    const int num_own = rank.num_other_tenants == 0 ? rank.num_requests : rank.num_own_requests;
    return std::pair((rank.num_other_tenants + 1) * (num_own + 1), rank.num_requests);
  };
  std::optional<int> best;
  for (int i = 0; i < static_cast<int>(ranks.size()); ++i) {
    if (!ranks[i].is_usable) continue;
    if (!best.has_value() || rank_order(ranks[i]) < rank_order(ranks[*best])) best = i;
  }
  return best;
}

RouterCore::RouterCore(const Options& options, Membership membership)
    : options_(options), membership_(std::move(membership)) {}

void RouterCore::OnDescription(int member, const internal::MemberDescription& description) {
  ForgetNeededTime(member);
  membership_.OnDescription(member, description);
  was_ready_ = was_ready_ || IsReady();
}

void RouterCore::OnUnreachable(int member, const std::string& reason) {
  ForgetNeededTime(member);
  membership_.OnUnreachable(member, reason);
}

Action RouterCore::OnRequest(int64_t request, const std::string& tenant, int64_t num_bytes,
                             absl::Duration time_left) {
  if (absl::Status place = CheckPlace(tenant, num_bytes); !place.ok()) {
    return FinishWith(std::move(place));
  }
  Request opened;
  opened.tenant = tenant;
  opened.num_bytes = num_bytes;
  opened.time_left = time_left;
  return Open(request, std::move(opened));
}

Action RouterCore::OnResumed(int64_t request, const std::string& tenant, const ModelIdentity& model,
                             int64_t num_bytes) {
  if (absl::Status place = CheckResumedPlace(num_bytes); !place.ok()) {
    return FinishWith(std::move(place));
  }
  if (const absl::Status served = membership_.CheckServed(model); !served.ok()) {
    return FinishWith(absl::FailedPreconditionError(absl::StrCat(
        "the answer was begun with another model than is served now: ", served.message())));
  }
  Request opened;
  opened.tenant = tenant;
  opened.num_bytes = num_bytes;
  opened.is_resumed = true;
  opened.is_begun = true;
  const auto& served = membership_.model();
  opened.model = served != nullptr && served->CheckSame(model).ok()
                     ? served
                     : std::make_shared<const ModelIdentity>(model);
  return Open(request, std::move(opened));
}

absl::Status RouterCore::CheckSize(int64_t num_bytes) const {
  if (num_bytes <= options_.max_request_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the request may hold ", num_bytes, " bytes of the router, all requests together ",
      options_.max_request_bytes,
      "; ask for less (max_new_tokens, num_choices), or give the router more (memory_bytes)"));
}

absl::Status RouterCore::CheckPlace(const std::string& tenant, int64_t num_bytes) const {
  RETURN_IF_ERROR(CheckSize(num_bytes));
  const int num_places = 2 * options_.max_open_requests;
  const int num_taken = num_open_requests() - resumed_.num;
  const auto found = opened_.find(tenant);
  const Opened own = found == opened_.end() ? Opened() : found->second;
  if (own.num >= num_places - num_taken) {
    return Full(absl::StrCat(
        "the router has ", num_taken, " open requests, ", own.num, " of this tenant; of ",
        num_places, " places a tenant may take as many as it leaves free; try again later"));
  }
  const int64_t num_left = options_.max_request_bytes - opened_bytes_;
  const bool leaves_enough = own.num == 0 || own.num_bytes + num_bytes <= num_left;
  if (num_bytes <= num_left && leaves_enough) return absl::OkStatus();
  return Full(absl::StrCat(
      "open requests may hold ", opened_bytes_, " bytes of the router, ", own.num_bytes,
      " of them of this tenant, which asks for ", num_bytes, " more; of ",
      options_.max_request_bytes,
      " a tenant may take as many as it leaves free (a smaller max_new_tokens asks for less, a "
      "larger memory_bytes of the router has more); try again later"));
}

absl::Status RouterCore::CheckResumedPlace(int64_t num_bytes) const {
  RETURN_IF_ERROR(CheckSize(num_bytes));
  const int num_places = 2 * options_.max_open_requests;
  if (resumed_.num >= num_places) {
    return Full(absl::StrCat("the router has ", resumed_.num, " resumed requests of at most ",
                             num_places, "; try again later"));
  }
  if (num_bytes <= options_.max_request_bytes - resumed_.num_bytes) return absl::OkStatus();
  return Full(absl::StrCat("resumed requests may hold ", resumed_.num_bytes,
                           " bytes of the router, one more ", num_bytes, ", the limit is ",
                           options_.max_request_bytes, "; try again later"));
}

std::optional<absl::Duration> RouterCore::NeededTime(const Request& request, int member) const {
  const auto of_rank = needed_time_.find(member);
  if (request.is_begun || of_rank == needed_time_.end()) return std::nullopt;
  const auto needed = of_rank->second.find(request.tenant);
  if (needed == of_rank->second.end()) return std::nullopt;
  return needed->second;
}

bool RouterCore::MayBeInTime(const Request& request, int member) const {
  const std::optional<absl::Duration> needed = NeededTime(request, member);
  return !needed.has_value() || *needed <= request.time_left;
}

void RouterCore::ForgetNeededTime(int member) { needed_time_.erase(member); }

absl::Status RouterCore::CheckTime(const Request& request) const {
  std::optional<int> soonest;
  for (const int member : membership_.ranks()) {
    if (!IsUsable(request, member)) continue;
    if (MayBeInTime(request, member)) return absl::OkStatus();
    if (!soonest.has_value() || NeededTime(request, member) < NeededTime(request, *soonest)) {
      soonest = member;
    }
  }
  if (!soonest.has_value()) return absl::OkStatus();  // it waits for one
  const absl::Duration needed = *NeededTime(request, *soonest);
  return WithRetryAfter(
      absl::ResourceExhaustedError(absl::StrCat(
          membership_.member(*soonest).info.name, ": one more request of this tenant would take ",
          "some ", absl::FormatDuration(absl::Trunc(needed, absl::Milliseconds(1))), ", and has ",
          absl::FormatDuration(absl::Trunc(request.time_left, absl::Milliseconds(1))),
          " until its deadline; try again later")),
      std::clamp(needed - request.time_left, kLeastRetryAfter, kMostRetryAfter));
}

Action RouterCore::Open(int64_t number, Request request) {
  ORRERY_CHECK(!requests_.contains(number)) << "request " << number << " is open already";
  if (is_stopping_) {
    return FinishWith(Stopping());
  }
  // While a cluster comes up, nobody can tell for how long.
  if (!was_ready_) return FinishWith(absl::UnavailableError(WhyNoRank(request)));
  if (absl::Status time = CheckTime(request); !time.ok()) return FinishWith(std::move(time));
  Opened& opened = request.is_resumed ? resumed_ : opened_[request.tenant];
  ++opened.num;
  opened.num_bytes += request.num_bytes;
  if (!request.is_resumed) opened_bytes_ += request.num_bytes;
  return StartOrWait(requests_.emplace(number, std::move(request)).first->second, /*excluded=*/{});
}

Action RouterCore::OnToken(int64_t request, int64_t count) {
  Request& open = Find(request);
  open.is_begun = true;
  open.num_failures = 0;
  open.num_waits = 0;
  open.full_ranks.clear();
  open.num_tokens += count;
  Action action;
  action.kind = Action::Kind::kForward;
  action.member = open.member;
  return action;
}

Action RouterCore::OnEnded(int64_t request) { return Finish(request, absl::OkStatus()); }

Action RouterCore::OnFailed(int64_t request, const absl::Status& status) {
  Request& open = Find(request);
  const std::string rank = membership_.member(open.member).info.name;
  absl::Status failure(status.code(), open.num_tokens == 0
                                          ? absl::StrCat(rank, ": ", status.message())
                                          : absl::StrCat(rank, " failed after ", open.num_tokens,
                                                         " tokens: ", status.message()));
  if (const auto after = RetryAfterOf(status)) failure = WithRetryAfter(failure, *after);
  const int failed = open.member;
  if (absl::IsUnavailable(status)) {
    // It answers no more: no request goes there until it describes itself again. What it had begun of
    // this one nobody knows.
    membership_.OnUnreachable(failed, absl::StrCat("a request failed: ", status.message()));
    open.is_begun = true;
    if (++open.num_failures >= options_.max_attempts) {
      return Finish(request,
                    absl::UnavailableError(absl::StrCat(
                        open.num_failures, " ranks in a row, the last ", failure.message())));
    }
    open.last_failure = std::move(failure);
    return StartOrWait(open, {failed});
  }
  if (!absl::IsResourceExhausted(status)) return Finish(request, std::move(failure));
  // Full. Of a replay not even the reserve is free; where that is so of all, it takes time to change.
  if (open.is_begun) {
    open.last_failure = std::move(failure);
    open.full_ranks.push_back(failed);
    return StartOrWait(open, open.full_ranks);
  }
  if (const auto needed = NeededTimeOf(status)) needed_time_[failed][open.tenant] = *needed;
  if (open.was_refused || !Assign(open, {failed}).has_value()) {
    return Finish(request, std::move(failure));
  }
  open.was_refused = true;
  return StartOn(open.member, /*is_replay=*/false);
}

Action RouterCore::OnRetry(int64_t request) {
  Request& open = Find(request);
  ORRERY_CHECK(open.state == RequestState::kWaiting) << "request " << request << " runs";
  open.full_ranks.clear();
  const bool has_had_rank = open.member >= 0;
  if (!has_had_rank && is_stopping_) return Finish(request, Stopping());
  if (absl::Status time = CheckTime(open); !time.ok()) return Finish(request, std::move(time));
  const Action action = StartOrWait(open, /*excluded=*/{});
  if (action.kind != Action::Kind::kWait || has_had_rank || open.num_waits <= kMaxOpeningWaits) {
    return action;
  }
  return Finish(request, absl::UnavailableError(WhyNoRank(open)));
}

Action RouterCore::StartOrWait(Request& request, const std::vector<int>& excluded) {
  if (!Assign(request, excluded).has_value()) return Wait(request);
  if (request.model == nullptr) request.model = membership_.model();
  if (request.is_begun) ++num_replays_;
  request.state = RequestState::kRunning;
  return StartOn(request.member, /*is_replay=*/request.is_begun);
}

Action RouterCore::Wait(Request& request) {
  request.state = RequestState::kWaiting;
  Action action;
  action.kind = Action::Kind::kWait;
  action.delay = std::min(kFirstDelay * (1 << std::min(request.num_waits++, 10)), kLongestDelay);
  return action;
}

Action RouterCore::OnDeadline(int64_t request) {
  const Request& open = Find(request);
  if (open.member < 0) {
    return Finish(request, absl::DeadlineExceededError(absl::StrCat(
                               "the deadline passed before a rank was there: ", WhyNoRank(open))));
  }
  std::string message = absl::StrCat("the deadline passed after ", open.num_tokens, " tokens of ",
                                     membership_.member(open.member).info.name);
  if (open.state == RequestState::kWaiting) {
    absl::StrAppend(&message,
                    ", while it waited for a rank; the last one: ", open.last_failure.message());
  }
  return Finish(request, absl::DeadlineExceededError(message));
}

Action RouterCore::OnCancelled(int64_t request) {
  return Finish(request, absl::CancelledError("the client cancelled the request"));
}

Action RouterCore::OnStalled(int64_t request) {
  return Finish(request, absl::ResourceExhaustedError(
                             absl::StrCat("cut off: after ", Find(request).num_tokens,
                                          " tokens of the rank the client took no more of them")));
}

Action RouterCore::OnSuperseded(int64_t request) {
  return Finish(request, absl::AbortedError(absl::StrCat("after ", Find(request).num_tokens,
                                                         " tokens another call of the client "
                                                         "resumed the request")));
}

bool RouterCore::IsReady() const {
  return std::any_of(membership_.ranks().begin(), membership_.ranks().end(),
                     [this](int member) { return IsUsable(/*request=*/{}, member); });
}

std::string RouterCore::WhyNotReady() const { return IsReady() ? "" : WhyNoRank(/*request=*/{}); }

std::string RouterCore::WhyNoRank(const Request& request) const {
  std::vector<std::string> reasons;
  for (const int member : membership_.ranks()) {
    const MemberInfo& rank = membership_.member(member).info;
    if (!membership_.IsUsable(member)) {
      const bool could_serve = request.model != nullptr || !rank.is_retiring;
      if (could_serve) reasons.push_back(membership_.WhyNotUsable(member));
    } else if (request.model != nullptr) {
      reasons.push_back(absl::StrCat(rank.name, " serves another model or numerics id"));
    }
  }
  std::string what = "no attention rank is ready";
  if (request.model != nullptr) {
    absl::StrAppend(&what, " that serves numerics id \"", request.model->numerics_id, "\"");
  }
  return absl::StrCat(what, ": ", absl::StrJoin(reasons, "; "));
}

int RouterCore::num_open_requests(int member) const {
  const auto of_rank = running_.find(member);
  if (of_rank == running_.end()) return 0;
  int num_open = 0;
  for (const auto& [tenant, count] : of_rank->second) num_open += count;
  return num_open;
}

void RouterCore::Count(Request& request) {
  request.is_counted = true;
  ++running_[request.member][request.tenant];
}

void RouterCore::Uncount(Request& request) {
  if (!std::exchange(request.is_counted, false)) return;
  std::map<std::string, int>& of_rank = running_.at(request.member);
  const auto own = of_rank.find(request.tenant);
  if (--own->second == 0) of_rank.erase(own);
}

std::optional<int> RouterCore::Assign(Request& request, const std::vector<int>& excluded) {
  Uncount(request);
  std::vector<RankSnapshot> ranks;
  for (const int member : membership_.ranks()) {
    const internal::Load& load = membership_.member(member).description.load();
    const std::map<std::string, int>& tenants = running_[member];
    const auto own = tenants.find(request.tenant);
    RankSnapshot& rank = ranks.emplace_back();
    const bool is_excluded = std::count(excluded.begin(), excluded.end(), member) > 0;
    rank.is_usable = !is_excluded && IsUsable(request, member) && MayBeInTime(request, member);
    rank.num_own_requests = own == tenants.end() ? 0 : own->second;
    rank.num_other_tenants = static_cast<int>(tenants.size()) - (own == tenants.end() ? 0 : 1);
    const int num_open = num_open_requests(member);
    // What the rank last said is late, what we sent is not all there is: the larger is nearer to
    // the truth.
    rank.num_requests = std::max(num_open, load.running_requests() + load.waiting_requests());
  }
  const std::optional<int> rank = PickRank(ranks);
  if (!rank.has_value()) return std::nullopt;
  request.member = membership_.ranks()[*rank];
  Count(request);
  return request.member;
}

bool RouterCore::IsUsable(const Request& request, int member) const {
  if (!membership_.IsUsable(member)) return false;
  const bool is_retiring = membership_.member(member).info.is_retiring;
  if (request.model == nullptr) return !is_retiring;
  return (!is_retiring && request.model == membership_.model()) ||
         membership_.Serves(member, *request.model);
}

RouterCore::Request& RouterCore::Find(int64_t request) {
  const auto found = requests_.find(request);
  ORRERY_CHECK(found != requests_.end()) << "request " << request << " is not open";
  return found->second;
}

Action RouterCore::Finish(int64_t request, absl::Status status) {
  Request& over = Find(request);
  Uncount(over);
  const bool was_taken = over.is_begun || !absl::IsResourceExhausted(status);
  if (was_taken && over.member >= 0) ForgetNeededTime(over.member);
  Opened& opened = over.is_resumed ? resumed_ : opened_.at(over.tenant);
  --opened.num;
  opened.num_bytes -= over.num_bytes;
  if (!over.is_resumed) opened_bytes_ -= over.num_bytes;
  if (!over.is_resumed && opened.num == 0) opened_.erase(over.tenant);
  requests_.erase(request);
  return FinishWith(std::move(status));
}

}  // namespace orrery
