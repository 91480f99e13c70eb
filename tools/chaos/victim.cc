#include "tools/chaos/victim.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "tools/chaos/end_lines.h"

namespace orrery {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
constexpr absl::Duration kLookInterval = absl::Milliseconds(20);
constexpr int kMaxTokensToPass = 300;
constexpr int kNumFlipSeeds = 1'000'000;

// The cluster as its ranks see it: shards behind their proxies.
internal::ClusterFile BehindProxies(internal::ClusterFile cluster,
                                    const std::vector<std::unique_ptr<FaultProxy>>& proxies) {
  for (size_t i = 0; i < proxies.size(); ++i) {
    cluster.mutable_expert(static_cast<int>(i))->set_address(proxies[i]->address());
  }
  return cluster;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Victim>> Victim::Start(const Options& options) {
  std::unique_ptr<Victim> victim(new Victim(options));
  RETURN_IF_ERROR(victim->StartCluster());
  const std::vector<std::string> routers = victim->RouterAddresses();
  ASSIGN_OR_RETURN(victim->client_, OrreryClient::Connect(routers, {}, kConnectTimeout));
  for (const internal::ClusterMember& router : victim->cluster().router()) {
    ASSIGN_OR_RETURN(OrreryClient client,
                     OrreryClient::Connect({router.address()}, {}, kConnectTimeout));
    victim->routers_.emplace(router.name(), std::move(client));
  }
  ASSIGN_OR_RETURN(
      victim->questions_,
      AskUndisturbed(*victim->client_, MakeRequests(options.seed, options.num_questions),
                     options.patience));
  if (options.asks_by_zipf) victim->questions_ = RepeatedByZipf(std::move(victim->questions_));
  victim->streams_.emplace(Streams::Options{.questions = &victim->questions_,
                                            .addresses = routers,
                                            .num_streams = options.num_streams,
                                            .timeout = options.patience,
                                            .busy_share = options.busy_share});
  return victim;
}

absl::Status Victim::StartCluster() {
  LaunchOptions launch = options_.launch;
  ASSIGN_OR_RETURN(const internal::ClusterFile cluster, MakeLocalCluster(options_.topology));
  if (options_.has_proxies) {
    for (const internal::ClusterMember& shard : cluster.expert()) {
      ASSIGN_OR_RETURN(std::unique_ptr<FaultProxy> proxy, FaultProxy::Start(shard.address()));
      proxies_.push_back(std::move(proxy));
    }
    launch.seen_by[internal::ROLE_ATTENTION] = BehindProxies(cluster, proxies_);
  }
  ASSIGN_OR_RETURN(launcher_, Launcher::StartCluster(cluster, launch));
  return launcher_->WaitUntilReady(options_.patience, {}, [this] { return should_stop(); });
}

int Victim::Below(int num) { return static_cast<int>(random_() % num); }

absl::Duration Victim::Between(absl::Duration least, absl::Duration most) {
  const double share = std::uniform_real_distribution<double>()(random_);
  return least * std::pow(absl::FDivDuration(most, least), share);
}

std::vector<std::string> Victim::NamesOf(internal::Role role) const {
  std::vector<std::string> names;
  for (const auto& [its_role, member] : AllMembers(launcher_->cluster())) {
    if (its_role == role && !member->spare()) names.push_back(member->name());
  }
  if (options_.has_bystanders) {
    ORRERY_CHECK(names.size() > 1) << "there is nobody to harm beside a bystander";
    names.pop_back();
  }
  return names;
}

std::vector<std::string> Victim::RouterAddresses() const {
  std::vector<std::string> addresses;
  for (const internal::ClusterMember& router : launcher_->cluster().router()) {
    addresses.push_back(router.address());
  }
  return addresses;
}

std::string Victim::AnyOf(internal::Role role) {
  const std::vector<std::string> names = NamesOf(role);
  return names[Below(static_cast<int>(names.size()))];
}

absl::Status Victim::LetTokensPass() {
  if (should_stop()) return absl::CancelledError("stopped");
  return streams_->AwaitTokens(1 + Below(kMaxTokensToPass), absl::Now() + options_.patience);
}

absl::Status Victim::LetTimePass(absl::Duration duration) {
  const absl::Time end = absl::Now() + duration;
  while (absl::Now() < end) {
    if (should_stop()) return absl::CancelledError("stopped");
    absl::SleepFor(std::min(kLookInterval, end - absl::Now()));
  }
  return absl::OkStatus();
}

absl::Status Victim::Kill(const std::string& name) {
  RETURN_IF_ERROR(launcher_->Kill(name, SIGKILL));
  if (!launcher_->WaitForExit(name, absl::Now() + options_.patience).has_value()) {
    return absl::InternalError(absl::StrCat(name, " survived SIGKILL"));
  }
  return absl::OkStatus();
}

absl::Status Victim::Signal(const std::string& name, int signal) {
  return launcher_->Kill(name, signal);
}

absl::Status Victim::Drain(const std::string& name) {
  RETURN_IF_ERROR(launcher_->Kill(name, SIGTERM));
  const std::optional<ExitResult> exit =
      launcher_->WaitForExit(name, absl::Now() + options_.patience);
  if (!exit.has_value()) {
    return absl::InternalError(absl::StrCat(name, " did not stop when asked to"));
  }
  if (exit->code != 0 || exit->signal != 0) {
    return absl::InternalError(absl::StrCat(name, " was asked to stop, and ended with ",
                                            exit->ToString(), "; its last output:\n",
                                            launcher_->LastOutput(name)));
  }
  return AwaitRouters(name, [&](const v1::ClusterStatusResponse& status) {
    return std::none_of(status.member().begin(), status.member().end(), [&](const auto& member) {
      return member.name() == name && member.state() == "ready";
    });
  });
}

absl::Status Victim::Restart(const std::string& name, const std::vector<std::string>& flags) {
  return launcher_->Restart(name, flags);
}

absl::StatusOr<std::string> Victim::ClusterFlag(const internal::ClusterFile& cluster) {
  const std::string path = absl::StrCat(launcher_->folder(), "/other-cluster.txtpb");
  RETURN_IF_ERROR(WriteClusterFile(cluster, path));
  return absl::StrCat("--cluster=", path);
}

absl::Status Victim::RestartToDie(const std::string& name, FaultPoint point, int last_passing) {
  return launcher_->Restart(
      name, {absl::StrCat("--die_at=", FaultPointName(point), ":", 1 + Below(last_passing))});
}

absl::Status Victim::RestartToFlip(const std::string& name, int one_in) {
  return launcher_->Restart(name,
                            {absl::StrCat("--flip_one_in=", one_in, ":", Below(kNumFlipSeeds))});
}

absl::StatusOr<absl::Duration> Victim::AwaitProblem(internal::Role role, const std::string& begin) {
  const absl::Time since = absl::Now();
  std::vector<std::string> unaware;
  do {
    RETURN_IF_ERROR(LetTimePass(kLookInterval));
    const absl::StatusOr<v1::ClusterStatusResponse> status = client_->ClusterStatus();
    if (!status.ok()) continue;
    unaware.clear();
    for (const v1::MemberStatus& member : status->member()) {
      if (member.role() != RoleName(role)) continue;
      const bool is_aware =
          std::any_of(member.problem().begin(), member.problem().end(),
                      [&](const std::string& problem) { return absl::StartsWith(problem, begin); });
      if (!is_aware) unaware.push_back(member.name());
    }
    if (unaware.empty()) return absl::Now() - since;
  } while (absl::Now() < since + options_.patience);
  return absl::DeadlineExceededError(
      absl::StrCat(absl::StrJoin(unaware, ", "), " never said \"", begin, "\""));
}

absl::Status Victim::AwaitDeath(const std::string& name) {
  if (launcher_->WaitForExit(name, absl::Now() + options_.patience).has_value()) {
    return absl::OkStatus();
  }
  return absl::DeadlineExceededError(absl::StrCat(name, " never came to the point of its death"));
}

absl::Status Victim::AwaitReady() {
  RETURN_IF_ERROR(
      launcher_->WaitUntilReady(options_.patience, {}, [this] { return should_stop(); }));
  return AwaitRouters(/*but=*/"", [](const v1::ClusterStatusResponse& status) {
    return std::all_of(status.member().begin(), status.member().end(), [](const auto& member) {
      return member.state() == "ready" || member.state() == "absent";
    });
  });
}

absl::Status Victim::AwaitRouters(
    const std::string& but, const std::function<bool(const v1::ClusterStatusResponse&)>& is_seen) {
  const absl::Time deadline = absl::Now() + options_.patience;
  for (auto& [name, router] : routers_) {
    while (name != but) {
      const absl::StatusOr<v1::ClusterStatusResponse> status = router.ClusterStatus();
      if (status.ok() && is_seen(*status)) break;
      if (absl::Now() >= deadline) {
        return absl::DeadlineExceededError(
            absl::StrCat(name, " does not see in time what is: ",
                         status.ok() ? status->ShortDebugString() : status.status().ToString()));
      }
      RETURN_IF_ERROR(LetTimePass(kLookInterval));
    }
  }
  return absl::OkStatus();
}

absl::Status Victim::AwaitRecovery() {
  RETURN_IF_ERROR(AwaitReady());
  return streams_->AwaitAnswers(options_.num_streams, absl::Now() + options_.patience);
}

StreamsReport Victim::Stop() { return streams_->Stop(); }

int64_t Victim::CountNotLoggedOnce(const std::vector<std::string>& request_ids) const {
  EndLines lines;
  for (const internal::ClusterMember& router : cluster().router()) {
    lines.Add(launcher_->Output(router.name()));
  }
  return lines.CountNotOnce(request_ids);
}

}  // namespace orrery
