#include "services/router/cluster_status.h"

#include "model/identity/fingerprint_proto.h"
#include "rpc/cluster_file.h"

namespace orrery {
namespace {

void FillLoad(const internal::Load& load, v1::MemberStatus& status) {
  status.set_running_requests(load.running_requests());
  status.set_waiting_requests(load.waiting_requests());
  status.set_kv_blocks_used(load.kv_blocks_used());
  status.set_kv_blocks_total(load.kv_blocks_total());
  status.set_kv_blocks_cached(load.kv_blocks_cached());
  status.set_kv_blocks_leaked(load.kv_blocks_leaked());
  status.set_kv_evictions(load.kv_evictions());
  status.set_tokens_in(load.tokens_in());
  status.set_tokens_out(load.tokens_out());
  status.set_prefix_hit_tokens(load.prefix_hit_tokens());
  status.set_prefix_miss_tokens(load.prefix_miss_tokens());
  status.set_preemptions(load.preemptions());
  status.set_drafted_tokens(load.drafted_tokens());
  status.set_accepted_draft_tokens(load.accepted_draft_tokens());
}

void FillStatus(const MemberView& view, v1::MemberStatus& status) {
  const internal::MemberDescription& description = view.description;
  status.set_name(view.info.name);
  status.set_role(RoleName(view.info.role));
  status.set_address(view.info.address);
  status.set_retiring(view.info.is_retiring);
  if (!view.is_reachable && view.info.is_spare) {
    status.set_state("absent");
    return;
  }
  if (!view.is_reachable) {
    status.set_state("unreachable");
    status.add_problem(view.unreachable_reason);
    return;
  }
  status.set_state(MemberStateName(description.state()));
  if (!view.refusal.empty()) status.add_problem("refused: " + view.refusal);
  for (const std::string& problem : description.problems()) status.add_problem(problem);
  if (description.has_fingerprint()) {
    status.set_fingerprint(FromProto(description.fingerprint()).ToString());
  }
  status.set_numerics_id(description.numerics_id());
  status.set_backend(description.backend());
  status.set_loaded_bytes(description.loaded_bytes());
  status.set_total_bytes(description.total_bytes());
  status.set_needed_bytes(description.needed_bytes());
  status.set_budget_bytes(description.budget_bytes());
  int num_held = 0;
  for (const internal::HeldExperts& layer : description.held()) num_held += layer.expert_size();
  status.set_num_held_experts(num_held);
  FillLoad(description.load(), status);
  for (const internal::PeerView& peer : description.peers()) {
    if (peer.exchange().empty()) continue;
    v1::ExchangeLink* link = status.add_exchange_link();
    link->set_shard(peer.name());
    link->set_exchange(peer.exchange());
    link->set_problem(peer.exchange_problem());
  }
  status.set_frames(description.shard_load().frames());
  status.set_frame_groups(description.shard_load().groups());
}

void FillBalance(const std::string& router, const internal::BalanceView& view,
                 v1::Balance& balance) {
  balance.set_router(router);
  balance.set_imbalance(view.imbalance());
  balance.set_num_moves(view.num_moves());
  balance.set_before(view.before());
  balance.set_after(view.after());
  balance.set_reason(view.reason());
}

}  // namespace

v1::ClusterStatusResponse MakeClusterStatus(const RouterCore& core, const MemberInfo& self_info,
                                            const internal::MemberDescription& self) {
  v1::ClusterStatusResponse response;
  response.set_ready(core.IsReady());
  FillStatus({.info = self_info,
              .is_reachable = true,
              .unreachable_reason = "",
              .description = self,
              .refusal = "",
              .is_accepted = false},
             *response.add_member());
  for (int i = 0; i < core.membership().num_members(); ++i) {
    const MemberView& member = core.membership().member(i);
    FillStatus(member, *response.add_member());
    if (member.is_reachable && member.description.has_balance()) {
      FillBalance(member.info.name, member.description.balance(), *response.mutable_balance());
    }
  }
  if (core.balance().has_value()) {
    FillBalance(self_info.name, *core.balance(), *response.mutable_balance());
  }
  return response;
}

internal::MemberDescription DescribeRouter(const RouterCore& core, const MemberInfo& self_info,
                                           const Fingerprint& fingerprint) {
  internal::MemberDescription description;
  description.set_name(self_info.name);
  description.set_role(internal::ROLE_ROUTER);
  description.set_state(core.is_stopping() ? internal::MEMBER_STATE_DRAINING
                        : core.IsReady()   ? internal::MEMBER_STATE_READY
                                           : internal::MEMBER_STATE_WAITING);
  if (core.is_stopping()) description.add_problems("this router is stopping");
  if (!core.IsReady()) description.add_problems(core.WhyNotReady());
  description.mutable_fingerprint()->set_config_hash(fingerprint.config_hash);
  description.mutable_load()->set_running_requests(core.num_open_requests());
  if (core.balance().has_value()) *description.mutable_balance() = *core.balance();
  description.set_needed_bytes(core.options().needed_bytes);
  description.set_budget_bytes(core.options().budget_bytes);
  return description;
}

}  // namespace orrery
