#include "rpc/monitoring/member_metrics.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/version.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using internal::MemberDescription;

std::string Text(const MemberDescription& description) {
  MetricFamilies families;
  AddMemberMetrics(description, {.model = "abacus", .kv_block_tokens = 64}, families);
  return families.ToText();
}

// Those behind the state, without their comments, one a line.
std::string OwnValues(const MemberDescription& description) {
  std::vector<std::string> lines = absl::StrSplit(Text(description), '\n');
  std::erase_if(lines, [](const std::string& line) {
    return absl::StartsWith(line, "#") || absl::StartsWith(line, "orrery_member_") ||
           absl::StartsWith(line, "orrery_build_info");
  });
  return absl::StrJoin(lines, "\n");
}

TEST(MemberMetrics, OfARouterInFull) {
  MemberDescription router;
  router.set_name("router-0");
  router.set_role(internal::ROLE_ROUTER);
  router.set_state(internal::MEMBER_STATE_WAITING);
  router.add_problems("no attention rank is ready");
  router.mutable_fingerprint()->set_config_hash("0123abcd");
  router.mutable_load()->set_running_requests(7);
  router.set_needed_bytes(5);
  router.set_budget_bytes(6);
  EXPECT_EQ(Text(router),
            R"(# HELP orrery_build_info What runs.
# TYPE orrery_build_info gauge
orrery_build_info{name="router-0",role="router",version=")" +
                std::string(kVersion) +
                R"(",model="abacus",numerics_id="",backend="",config_hash="0123abcd"} 1
# HELP orrery_member_state 1 for the state that the member is in.
# TYPE orrery_member_state gauge
orrery_member_state{state="loading"} 0
orrery_member_state{state="waiting"} 1
orrery_member_state{state="ready"} 0
orrery_member_state{state="draining"} 0
orrery_member_state{state="stopping"} 0
# HELP orrery_member_problems Sentences that it has to say about what it lacks.
# TYPE orrery_member_problems gauge
orrery_member_problems 1
# HELP orrery_memory_needed_bytes Memory needed at most; 0 while not known.
# TYPE orrery_memory_needed_bytes gauge
orrery_memory_needed_bytes 5
# HELP orrery_memory_budget_bytes Memory that may be taken; 0 while not known.
# TYPE orrery_memory_budget_bytes gauge
orrery_memory_budget_bytes 6
# HELP orrery_router_open_requests Requests under way.
# TYPE orrery_router_open_requests gauge
orrery_router_open_requests 7
)");
}

TEST(MemberMetrics, OfTheRouterThatBalances) {
  MemberDescription router;
  router.set_role(internal::ROLE_ROUTER);
  router.mutable_balance()->set_imbalance(1.25);
  router.mutable_balance()->set_num_moves(3);
  EXPECT_EQ(OwnValues(router), R"(orrery_memory_needed_bytes 0
orrery_memory_budget_bytes 0
orrery_router_open_requests 0
orrery_router_imbalance_ratio 1.25
orrery_router_expert_moves_total 3
)");
}

TEST(MemberMetrics, OfAnAttentionRank) {
  MemberDescription rank;
  rank.set_role(internal::ROLE_ATTENTION);
  rank.set_loaded_bytes(1'234'567'890'123);
  rank.set_total_bytes(2'000'000'000'000);
  rank.set_needed_bytes(5);
  rank.set_budget_bytes(6);
  internal::Load& load = *rank.mutable_load();
  load.set_running_requests(3);
  load.set_waiting_requests(4);
  load.set_kv_blocks_used(16);
  load.set_kv_blocks_total(64);
  load.set_kv_blocks_cached(8);
  load.set_kv_blocks_leaked(1);
  load.set_tokens_in(100);
  load.set_tokens_out(200);
  load.set_prefix_hit_tokens(30);
  load.set_prefix_miss_tokens(70);
  load.set_kv_evictions(9);
  load.set_preemptions(2);
  load.set_drafted_tokens(50);
  load.set_accepted_draft_tokens(40);
  internal::PeerView& first = *rank.add_peers();
  first.set_name("expert-0");
  first.set_usable(true);
  first.set_exchange("shm");
  first.set_hedges(5);
  first.set_compared_answers(6);
  first.set_differing_answers(1);
  rank.add_peers()->set_name("expert-1");
  EXPECT_EQ(OwnValues(rank), R"(orrery_memory_needed_bytes 5
orrery_memory_budget_bytes 6
orrery_weights_loaded_bytes 1234567890123
orrery_weights_bytes 2000000000000
orrery_attention_running_sequences 3
orrery_attention_waiting_sequences 4
orrery_attention_kv_evictions_total 9
orrery_attention_preemptions_total 2
orrery_attention_prompt_tokens_total 100
orrery_attention_generated_tokens_total 200
orrery_attention_prefix_hit_tokens_total 30
orrery_attention_prefix_miss_tokens_total 70
orrery_attention_drafted_tokens_total 50
orrery_attention_accepted_draft_tokens_total 40
orrery_attention_kv_blocks{state="used"} 16
orrery_attention_kv_blocks{state="cached"} 8
orrery_attention_kv_blocks{state="free"} 40
orrery_attention_kv_usage_ratio 0.25
orrery_attention_kv_leaked_blocks 1
orrery_attention_peer_usable{peer="expert-0"} 1
orrery_attention_peer_usable{peer="expert-1"} 0
orrery_attention_exchange_info{peer="expert-0",carrier="shm"} 1
orrery_attention_exchange_info{peer="expert-1",carrier="none"} 1
orrery_attention_hedges_total{peer="expert-0"} 5
orrery_attention_hedges_total{peer="expert-1"} 0
orrery_attention_compared_answers_total{peer="expert-0"} 6
orrery_attention_compared_answers_total{peer="expert-1"} 0
orrery_attention_differing_answers_total{peer="expert-0"} 1
orrery_attention_differing_answers_total{peer="expert-1"} 0
vllm:num_requests_running{model_name="abacus"} 3
vllm:num_requests_waiting{model_name="abacus"} 4
vllm:kv_cache_usage_perc{model_name="abacus"} 0.25
vllm:cache_config_info{model_name="abacus",block_size="64",num_gpu_blocks="64"} 1
)");
}

TEST(MemberMetrics, OfAnExpertShard) {
  MemberDescription shard;
  shard.set_role(internal::ROLE_EXPERT);
  internal::ShardLoad& load = *shard.mutable_shard_load();
  load.set_frames(10);
  load.set_groups(4);
  load.set_rows(80);
  load.set_abandoned_frames(2);
  load.set_orphaned_frames(3);
  for (int layer = 1; layer <= 2; ++layer) {
    internal::HeldExperts& held = *shard.add_held();
    held.set_layer(layer);
    for (int expert = 0; expert < 3; ++expert) held.add_expert(expert);
  }
  shard.mutable_heir_offer()->set_room(14);
  shard.mutable_heir_offer()->set_num_copies(1);
  EXPECT_EQ(OwnValues(shard), R"(orrery_memory_needed_bytes 0
orrery_memory_budget_bytes 0
orrery_weights_loaded_bytes 0
orrery_weights_bytes 0
orrery_expert_frames_total 10
orrery_expert_rows_total 80
orrery_expert_abandoned_frames_total 2
orrery_expert_orphaned_frames_total 3
orrery_expert_held_experts 6
orrery_expert_copies 1
orrery_expert_copy_room 14
)");
}

TEST(MetricFamilies, WriteAHistogramWithEverythingAboveItsLastBoundInInfinity) {
  MetricFamilies families;
  Histogram histogram({0.1, 1});
  for (const double value : {0.05, 0.5, 0.5, 7.0}) histogram.Observe(value);
  families.AddHistogram("a_seconds", "Time.", histogram.Read(), {{"peer", "x"}});
  EXPECT_EQ(families.ToText(), R"(# HELP a_seconds Time.
# TYPE a_seconds histogram
a_seconds_count{peer="x"} 4
a_seconds_sum{peer="x"} 8.050000000000001
a_seconds_bucket{peer="x",le="0.1"} 1
a_seconds_bucket{peer="x",le="1"} 3
a_seconds_bucket{peer="x",le="+Inf"} 4
)");
}

TEST(MetricFamilies, EscapeLabels) {
  MetricFamilies families;
  families.AddGauge("a", "b", 1, {{"c", "say \"x\\y\"\n"}});
  EXPECT_EQ(families.ToText(), "# HELP a b\n# TYPE a gauge\na{c=\"say \\\"x\\\\y\\\"\\n\"} 1\n");
}

}  // namespace
}  // namespace orrery
