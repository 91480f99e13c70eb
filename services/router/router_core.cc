#include "services/router/router_core.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"

namespace orrery {
namespace {

constexpr int kMaxAttempts = 2;

// Codes with which another rank may do better: this one is gone, or full.
bool IsRetryable(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kResourceExhausted;
}

Action StartOn(int member) {
  return {.kind = Action::Kind::kStart, .member = member, .status = absl::OkStatus()};
}

Action FinishWith(absl::Status status) {
  return {.kind = Action::Kind::kFinish, .member = -1, .status = std::move(status)};
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
  membership_.OnDescription(member, description);
}

void RouterCore::OnUnreachable(int member, const std::string& reason) {
  membership_.OnUnreachable(member, reason);
}

Action RouterCore::OnRequest(int64_t request, const std::string& tenant) {
  ORRERY_CHECK(!requests_.contains(request)) << "request " << request << " is open already";
  if (is_stopping_) {
    return FinishWith(absl::UnavailableError("this router is stopping; ask another one"));
  }
  const int num_places = 2 * options_.max_open_requests;
  const auto open = num_open_.find(tenant);
  const int num_of_tenant = open == num_open_.end() ? 0 : open->second;
  if (num_of_tenant >= num_places - num_open_requests()) {
    return FinishWith(absl::ResourceExhaustedError(
        absl::StrCat("the router has ", num_open_requests(), " open requests, ", num_of_tenant,
                     " of this tenant; of ", num_places,
                     " places a tenant may take as many as it leaves free; try again later")));
  }
  Request opened;
  opened.tenant = tenant;
  const std::optional<int> member = Assign(opened, /*excluded=*/-1);
  if (!member.has_value()) return FinishWith(absl::UnavailableError(WhyNotReady()));
  ++num_open_[tenant];
  requests_.emplace(request, std::move(opened));
  return StartOn(*member);
}

Action RouterCore::OnToken(int64_t request, int64_t count) {
  Request& open = Open(request);
  open.state = RequestState::kStreaming;
  open.num_tokens += count;
  return {.kind = Action::Kind::kForward, .member = open.member, .status = absl::OkStatus()};
}

Action RouterCore::OnEnded(int64_t request) { return Finish(request, absl::OkStatus()); }

Action RouterCore::OnFailed(int64_t request, const absl::Status& status) {
  Request& open = Open(request);
  const std::string rank = membership_.member(open.member).info.name;
  // It answers no more: no new request goes there until it describes itself again.
  if (status.code() == absl::StatusCode::kUnavailable) {
    membership_.OnUnreachable(open.member, absl::StrCat("a request failed: ", status.message()));
  }
  if (open.state == RequestState::kStarted && IsRetryable(status) &&
      open.num_attempts < kMaxAttempts) {
    const std::optional<int> other = Assign(open, /*excluded=*/open.member);
    if (other.has_value()) return StartOn(*other);
  }
  if (open.state == RequestState::kStreaming) {
    return Finish(request,
                  absl::Status(status.code(), absl::StrCat(rank, " failed after ", open.num_tokens,
                                                           " tokens: ", status.message())));
  }
  return Finish(request, absl::Status(status.code(), absl::StrCat(rank, ": ", status.message())));
}

Action RouterCore::OnDeadline(int64_t request) {
  const Request& open = Open(request);
  return Finish(request, absl::DeadlineExceededError(absl::StrCat(
                             "the deadline passed after ", open.num_tokens, " tokens of ",
                             membership_.member(open.member).info.name)));
}

Action RouterCore::OnCancelled(int64_t request) {
  return Finish(request, absl::CancelledError("the client cancelled the request"));
}

bool RouterCore::IsReady() const {
  return std::any_of(membership_.ranks().begin(), membership_.ranks().end(),
                     [this](int member) { return membership_.IsUsable(member); });
}

std::string RouterCore::WhyNotReady() const {
  if (IsReady()) return "";
  std::vector<std::string> reasons;
  for (const int member : membership_.ranks()) reasons.push_back(membership_.WhyNotUsable(member));
  return absl::StrCat("no attention rank is ready: ", absl::StrJoin(reasons, "; "));
}

int RouterCore::num_open_requests(int member) const {
  return static_cast<int>(
      std::count_if(requests_.begin(), requests_.end(),
                    [member](const auto& entry) { return entry.second.member == member; }));
}

std::optional<int> RouterCore::Assign(Request& request, int excluded) {
  std::map<int, std::map<std::string_view, int>> open;  // requests, by member and tenant
  for (const auto& [number, other] : requests_) {
    if (&other != &request) ++open[other.member][other.tenant];
  }
  std::vector<RankSnapshot> ranks;
  for (const int member : membership_.ranks()) {
    const internal::Load& load = membership_.member(member).description.load();
    const auto& tenants = open[member];
    const auto own = tenants.find(request.tenant);
    RankSnapshot& rank = ranks.emplace_back();
    rank.is_usable = member != excluded && membership_.IsUsable(member);
    rank.num_own_requests = own == tenants.end() ? 0 : own->second;
    rank.num_other_tenants = static_cast<int>(tenants.size()) - (own == tenants.end() ? 0 : 1);
    int num_open = 0;
    for (const auto& [tenant, count] : tenants) num_open += count;
    // What the rank last said is late, what we sent is not all there is: the larger is nearer to
    // the truth.
    rank.num_requests = std::max(num_open, load.running_requests() + load.waiting_requests());
  }
  const std::optional<int> rank = PickRank(ranks);
  if (!rank.has_value()) return std::nullopt;
  request.state = RequestState::kStarted;
  request.member = membership_.ranks()[*rank];
  ++request.num_attempts;
  return request.member;
}

RouterCore::Request& RouterCore::Open(int64_t request) {
  const auto found = requests_.find(request);
  ORRERY_CHECK(found != requests_.end()) << "request " << request << " is not open";
  return found->second;
}

Action RouterCore::Finish(int64_t request, absl::Status status) {
  const auto open = num_open_.find(Open(request).tenant);
  if (--open->second == 0) num_open_.erase(open);
  requests_.erase(request);
  return FinishWith(std::move(status));
}

}  // namespace orrery
