#include "services/router/router.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/heartbeat.h"
#include "base/log.h"
#include "checkpoint/file.h"
#include "placement/placement.h"
#include "rpc/channel.h"
#include "rpc/cluster_file.h"
#include "rpc/cluster_tls.h"
#include "rpc/member_service.h"
#include "rpc/member_watch.h"
#include "rpc/memory_budget.h"
#include "rpc/monitoring/monitor.h"
#include "rpc/server.h"
#include "services/router/balancer.h"
#include "services/router/cluster_status.h"
#include "services/router/router_memory.h"
#include "services/router/router_service.h"
#include "services/router/router_state.h"
#include "services/router/served_model.h"

namespace orrery {
namespace {

// How long connections get to close once no request is open.
constexpr absl::Duration kCloseTimeout = absl::Milliseconds(100);

class RouterImpl : public Router {
 public:
  RouterImpl(ServedModel model, MemberInfo self, std::vector<MemberInfo> others,
             const RouterCore::Options& core_options, bool share_prefix_cache, ResumeTokens tokens,
             const RouterMemory& memory)
      : model_(std::move(model)),
        self_(std::move(self)),
        share_prefix_cache_(share_prefix_cache),
        tokens_(std::move(tokens)),
        memory_(memory),
        state_(RouterCore(core_options, Membership(std::move(others), model_.fingerprint))),
        member_service_({}) {
    member_service_.SetLive([this](internal::MemberDescription& description) {
      description = state_.With(
          [this](RouterCore& core) { return DescribeRouter(core, self_, model_.fingerprint); });
    });
  }
  ~RouterImpl() override { Stop(absl::Now()); }

  // Before Start, so that an address that is taken ends the router before it has taken a request.
  absl::Status StartMonitor(const std::string& monitoring_address, const MemberFacts& facts) {
    ASSIGN_OR_RETURN(monitor_, Monitor::Start(monitoring_address, &member_service_, facts));
    return absl::OkStatus();
  }

  // balancing: nullopt for none.
  absl::Status Start(const ServerOptions& options,
                     const std::vector<std::shared_ptr<grpc::Channel>>& channels,
                     const RankChannels& ranks, const std::optional<Balancer::Options>& balancing) {
    service_ = std::make_unique<RouterService>(
        RouterService::Options{.self = self_,
                               .share_prefix_cache = share_prefix_cache_,
                               .workers = {.max_waiting_bytes = memory_.max_waiting_bytes},
                               .max_reply_bytes = memory_.max_reply_bytes,
                               .tokens = tokens_},
        &model_, &state_, ranks);
    ASSIGN_OR_RETURN(server_, Server::Start(options, {service_.get(), &member_service_}));
    watch_ = std::make_unique<MemberWatch>(
        channels, WatchOptions{},
        [this](int member, const absl::StatusOr<internal::MemberDescription>& answer) {
          OnAnswer(member, answer);
        });
    if (balancing.has_value()) balancer_.emplace(*balancing, &state_);
    monitor_->SetDetail({.heartbeat = &heartbeat_, .add_metrics = [this](MetricFamilies& families) {
                           AddMetrics(families);
                         }});
    return absl::OkStatus();
  }

  const std::string& address() const override { return server_->address(); }

  void Stop(absl::Time deadline) override {
    state_.With([](RouterCore& core) { core.OnStopping(); });
    if (server_ != nullptr) server_->SetServing(false);
    if (balancer_.has_value()) balancer_->Stop();
    state_.AwaitNoneOpen(deadline);
    // What is open now is cut off. The longer limit would be spent on connections, not on calls:
    // gRPC waits for clients to close theirs, and a client that makes no call notices only after
    // seconds.
    if (server_ != nullptr) server_->Stop(absl::Now() + kCloseTimeout);
    if (watch_ != nullptr) watch_->Stop();
    if (monitor_ != nullptr) monitor_->Stop();
  }

 private:
  void OnAnswer(int member, const absl::StatusOr<internal::MemberDescription>& answer) {
    bool is_ready = false;
    std::string before, after;
    state_.With([&](RouterCore& core) {
      before = core.membership().WhyNotUsable(member);
      if (answer.ok()) {
        core.OnDescription(member, *answer);
      } else {
        core.OnUnreachable(member, std::string(answer.status().message()));
      }
      after = core.membership().WhyNotUsable(member);
      is_ready = core.IsReady() && !core.is_stopping();
    });
    heartbeat_.Beat();
    server_->SetServing(is_ready);
    if (before.empty() && !after.empty()) LogWarning(after);
    if (!before.empty() && after.empty()) LogInfo(answer->name(), " is ready");
  }

  void AddMetrics(MetricFamilies& families) {
    service_->metrics().AddTo(families);
    int64_t num_replays = 0;
    std::vector<std::pair<MemberInfo, bool>> usable;
    state_.With([&](RouterCore& core) {
      num_replays = core.num_replays();
      const Membership& members = core.membership();
      for (int i = 0; i < members.num_members(); ++i) {
        usable.emplace_back(members.member(i).info, members.IsUsable(i));
      }
    });
    families.AddCounter("orrery_router_replays_total",
                        "Times that an answer was continued at another rank.",
                        static_cast<double>(num_replays));
    for (const auto& [info, is_usable] : usable) {
      families.AddGauge("orrery_router_member_usable",
                        "1 if the member answers, fits and is ready.", is_usable ? 1 : 0,
                        {{"member", info.name}, {"role", RoleName(info.role)}});
    }
  }

  const ServedModel model_;
  const MemberInfo self_;
  const bool share_prefix_cache_;
  const ResumeTokens tokens_;
  const RouterMemory memory_;
  RouterState state_;
  MemberService member_service_;
  std::unique_ptr<RouterService> service_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<MemberWatch> watch_;
  std::optional<Balancer> balancer_;
  Heartbeat heartbeat_;  // of the watch: its threads are gRPC's, its lock is the router's
  std::unique_ptr<Monitor> monitor_;  // last: it looks at the others
};

// nullopt if nothing is to be balanced. `members`: as the membership has them.
std::optional<Balancer::Options> BalancingOf(
    const internal::ClusterFile& cluster, const ModelConfig& config, const std::string& self,
    const std::vector<MemberInfo>& members,
    const std::vector<std::shared_ptr<grpc::Channel>>& channels) {
  const internal::ClusterFile staying = WithoutRetiring(cluster);
  if (cluster.limits().fixed_placement() || staying.expert_size() < 2) return std::nullopt;
  const std::vector<ExpertRange> homes = HomePlacement(config.num_experts, SpareShards(staying));
  Balancer::Options options;
  options.core.self = self;
  options.core.num_groups =
      config.topk_method == ModelConfig::TopkMethod::kGreedy ? 1 : config.num_groups;
  options.interval = absl::Milliseconds(cluster.limits().balance_ms());
  size_t shard = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i].role != internal::ROLE_EXPERT || members[i].is_retiring) continue;
    options.core.homes[static_cast<int>(i)] = homes[shard++];
    options.channels[static_cast<int>(i)] = channels[i];
  }
  return options;
}

// What every rank runs, and its queue; what does not fit there need not wait here.
int MaxOpenRequests(const internal::ClusterFile& cluster) {
  const internal::Limits& limits = cluster.limits();
  return cluster.attention_size() *
         (limits.max_running_sequences() + limits.max_waiting_requests());
}

absl::StatusOr<RouterMemory> PlanMemory(const internal::ClusterFile& cluster,
                                        const ClusterMember& self, const MemoryBudget& budget) {
  const std::string& model_dir = ModelDir(cluster, self);
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(model_dir));
  ASSIGN_OR_RETURN(const int max_context_tokens,
                   ContextLimit(config, cluster.limits(), cluster.numerics().precision()));
  return PlanRouterMemory({.max_context_tokens = max_context_tokens,
                           .max_open_requests = MaxOpenRequests(cluster),
                           .num_members = static_cast<int>(AllMembers(cluster).size()),
                           .num_workers = WorkQueue::Options().num_threads,
                           .parsed_bytes = ParsedBytes({JoinPath(model_dir, "tokenizer.json")})},
                          budget);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Router>> Router::Start(const internal::ClusterFile& cluster,
                                                      const std::string& name,
                                                      const RouterOptions& options) {
  ASSIGN_OR_RETURN(const ClusterMember* self, FindMember(cluster, internal::ROLE_ROUTER, name));
  const MemoryBudget budget = MemoryBudgetOf(cluster, *self);
  ASSIGN_OR_RETURN(const RouterMemory memory, PlanMemory(cluster, *self, budget));
  RETURN_IF_ERROR(TakeBudget(name, memory.need, budget));
  ASSIGN_OR_RETURN(ServedModel model, OpenServedModel(cluster, ModelDir(cluster, *self)));
  if (!model.chat_template.ok()) LogWarning(model.chat_template.status().ToString());
  std::vector<MemberInfo> others;
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  RankChannels ranks;
  for (const auto& [role, member] : AllMembers(cluster)) {
    if (member == self) continue;
    others.push_back({.role = role,
                      .name = member->name(),
                      .address = member->address(),
                      .is_spare = member->spare(),
                      .is_retiring = member->retiring()});
    const TlsFiles tls = MemberTls(cluster, internal::ROLE_ROUTER, {role});
    // Descriptions are small: a window that grows would have gRPC send pings to learn how far.
    ASSIGN_OR_RETURN(channels.emplace_back(),
                     MakeChannel(member->address(), tls, {.fixed_window = true}));
    if (role != internal::ROLE_ATTENTION) continue;
    ASSIGN_OR_RETURN(ranks[static_cast<int>(channels.size()) - 1],
                     MemberChannel::Make(member->address(), tls, {.fixed_window = true}));
  }
  const std::string& key_file = cluster.resume_key_file();
  ASSIGN_OR_RETURN(ResumeTokens tokens,
                   key_file.empty() ? absl::StatusOr<ResumeTokens>(ResumeTokens::WithRandomKey())
                                    : ResumeTokens::WithKeyFile(key_file));
  if (key_file.empty() && cluster.router_size() > 1) {
    LogWarning("no resume_key_file: answers cannot be resumed at another router");
  }
  const RouterCore::Options core_options{.max_open_requests = MaxOpenRequests(cluster),
                                         .max_request_bytes = memory.max_request_bytes,
                                         .needed_bytes = static_cast<int64_t>(memory.need.total()),
                                         .budget_bytes = static_cast<int64_t>(budget.bytes)};
  const std::optional<Balancer::Options> balancing =
      BalancingOf(cluster, model.config, name, others, channels);
  auto router = std::make_unique<RouterImpl>(
      std::move(model), MemberInfo{internal::ROLE_ROUTER, name, self->address()}, std::move(others),
      core_options, cluster.limits().share_prefix_cache(), std::move(tokens), memory);
  ServerOptions server_options;
  server_options.address = self->address();
  server_options.listen_address = options.listen_address;
  server_options.tls = FrontDoorTls(cluster);
  server_options.allow_plain_text = cluster.allow_plain_text();
  server_options.health_name = "orrery.v1.Orrery";
  server_options.reflection = options.reflection;
  server_options.max_message_bytes = memory.max_message_bytes;
  server_options.max_buffer_bytes = memory.max_buffer_bytes;
  // The core has twice as many places, and as many for resumed requests, and is to refuse what exceeds them.
  server_options.max_calls_per_connection =
      std::max(server_options.max_calls_per_connection, 6 * core_options.max_open_requests);
  RETURN_IF_ERROR(
      router->StartMonitor(options.monitoring_address, {.model = cluster.model().name()}));
  RETURN_IF_ERROR(router->Start(server_options, channels, ranks, balancing));
  return std::unique_ptr<Router>(std::move(router));
}

}  // namespace orrery
