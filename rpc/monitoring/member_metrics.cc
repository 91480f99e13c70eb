#include "rpc/monitoring/member_metrics.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "base/version.h"
#include "rpc/cluster_file.h"

namespace orrery {
namespace {

using internal::MemberDescription;

void AddState(const MemberDescription& description, MetricFamilies& families) {
  constexpr std::pair<internal::MemberState, const char*> kStates[] = {
      {internal::MEMBER_STATE_LOADING, "loading"},
      {internal::MEMBER_STATE_WAITING, "waiting"},
      {internal::MEMBER_STATE_READY, "ready"},
      {internal::MEMBER_STATE_DRAINING, "draining"},
      {internal::MEMBER_STATE_STOPPING, "stopping"}};
  for (const auto& [state, name] : kStates) {
    families.AddGauge("orrery_member_state", "1 for the state that the member is in.",
                      description.state() == state ? 1 : 0, {{"state", name}});
  }
  families.AddGauge("orrery_member_problems", "Sentences that it has to say about what it lacks.",
                    description.problems_size());
}

void AddMemory(const MemberDescription& description, MetricFamilies& families) {
  families.AddGauge("orrery_memory_needed_bytes", "Memory needed at most; 0 while not known.",
                    static_cast<double>(description.needed_bytes()));
  families.AddGauge("orrery_memory_budget_bytes", "Memory that may be taken; 0 while not known.",
                    static_cast<double>(description.budget_bytes()));
}

void AddWeights(const MemberDescription& description, MetricFamilies& families) {
  families.AddGauge("orrery_weights_loaded_bytes", "Weights in memory.",
                    static_cast<double>(description.loaded_bytes()));
  families.AddGauge("orrery_weights_bytes", "Weights to load.",
                    static_cast<double>(description.total_bytes()));
}

void AddRouter(const MemberDescription& description, MetricFamilies& families) {
  families.AddGauge("orrery_router_open_requests", "Requests under way.",
                    description.load().running_requests());
  if (!description.has_balance()) return;
  families.AddGauge("orrery_router_imbalance_ratio",
                    "Rows of the fullest shard over those of the mean shard; 0 while not known.",
                    description.balance().imbalance());
  families.AddCounter("orrery_router_expert_moves_total",
                      "Times that copies of experts were moved.",
                      static_cast<double>(description.balance().num_moves()));
}

double KvUsage(const internal::Load& load) {
  if (load.kv_blocks_total() == 0) return 0;
  return static_cast<double>(load.kv_blocks_used()) / static_cast<double>(load.kv_blocks_total());
}

void AddCache(const internal::Load& load, MetricFamilies& families) {
  const auto add_blocks = [&](const char* state, int64_t num_blocks) {
    families.AddGauge("orrery_attention_kv_blocks", "Blocks of the KV cache.",
                      static_cast<double>(num_blocks), {{"state", state}});
  };
  add_blocks("used", load.kv_blocks_used());
  add_blocks("cached", load.kv_blocks_cached());
  add_blocks("free", load.kv_blocks_total() - load.kv_blocks_used() - load.kv_blocks_cached());
  families.AddGauge("orrery_attention_kv_usage_ratio", "Used blocks over all.", KvUsage(load));
  families.AddGauge("orrery_attention_kv_leaked_blocks",
                    "References to blocks that no sequence owns: 0, or a bug.",
                    static_cast<double>(load.kv_blocks_leaked()));
}

void AddSequences(const internal::Load& load, MetricFamilies& families) {
  families.AddGauge("orrery_attention_running_sequences", "Sequences in steps.",
                    load.running_requests());
  families.AddGauge("orrery_attention_waiting_sequences", "Sequences that wait for a place.",
                    load.waiting_requests());
  const auto add = [&](const char* name, const char* help, int64_t count) {
    families.AddCounter(name, help, static_cast<double>(count));
  };
  add("orrery_attention_kv_evictions_total", "Known prefixes overwritten, one block each.",
      load.kv_evictions());
  add("orrery_attention_preemptions_total", "Sequences set back because the cache was full.",
      load.preemptions());
  add("orrery_attention_prompt_tokens_total", "Prompt tokens taken in.", load.tokens_in());
  add("orrery_attention_generated_tokens_total", "Tokens drawn.", load.tokens_out());
  add("orrery_attention_prefix_hit_tokens_total", "Prompt tokens that the prefix cache had.",
      load.prefix_hit_tokens());
  add("orrery_attention_prefix_miss_tokens_total", "Prompt tokens that it had not.",
      load.prefix_miss_tokens());
  add("orrery_attention_drafted_tokens_total", "Tokens drafted by speculative decoding.",
      load.drafted_tokens());
  add("orrery_attention_accepted_draft_tokens_total", "Drafted tokens that came true.",
      load.accepted_draft_tokens());
}

void AddPeers(const MemberDescription& description, MetricFamilies& families) {
  for (const internal::PeerView& peer : description.peers()) {
    const MetricLabels labels = {{"peer", peer.name()}};
    families.AddGauge("orrery_attention_peer_usable",
                      "1 if the shard answers, fits and is not quarantined.", peer.usable() ? 1 : 0,
                      labels);
    families.AddGauge(
        "orrery_attention_exchange_info", "What carries rows to the shard.", 1,
        {{"peer", peer.name()}, {"carrier", peer.exchange().empty() ? "none" : peer.exchange()}});
    families.AddCounter("orrery_attention_hedges_total",
                        "Times that another holder was asked because the shard was late.",
                        static_cast<double>(peer.hedges()), labels);
    families.AddCounter("orrery_attention_compared_answers_total",
                        "Answers that another holder gave too.",
                        static_cast<double>(peer.compared_answers()), labels);
    families.AddCounter("orrery_attention_differing_answers_total",
                        "Answers that differed from another holder's: 0, or broken hardware.",
                        static_cast<double>(peer.differing_answers()), labels);
  }
}

// What the inference extension of the Kubernetes gateway API reads, under vLLM's names.
void AddAliases(const internal::Load& load, const MemberFacts& facts, MetricFamilies& families) {
  const MetricLabels labels = {{"model_name", facts.model}};
  families.AddGauge("vllm:num_requests_running", "Alias of orrery_attention_running_sequences.",
                    load.running_requests(), labels);
  families.AddGauge("vllm:num_requests_waiting", "Alias of orrery_attention_waiting_sequences.",
                    load.waiting_requests(), labels);
  families.AddGauge("vllm:kv_cache_usage_perc", "Alias of orrery_attention_kv_usage_ratio, 0 to 1.",
                    KvUsage(load), labels);
  families.AddGauge("vllm:cache_config_info", "Tokens of a block, and blocks, wherever they lie.",
                    1,
                    {{"model_name", facts.model},
                     {"block_size", absl::StrCat(facts.kv_block_tokens)},
                     {"num_gpu_blocks", absl::StrCat(load.kv_blocks_total())}});
}

void AddExpert(const MemberDescription& description, MetricFamilies& families) {
  const internal::ShardLoad& load = description.shard_load();
  const auto add = [&](const char* name, const char* help, int64_t count) {
    families.AddCounter(name, help, static_cast<double>(count));
  };
  add("orrery_expert_frames_total", "Frames answered.", load.frames());
  add("orrery_expert_rows_total", "Visits of a row to an expert in them.", load.rows());
  add("orrery_expert_abandoned_frames_total", "Frames that their rank gave up.",
      load.abandoned_frames());
  add("orrery_expert_orphaned_frames_total", "Frames whose rank's connection went down.",
      load.orphaned_frames());
  int num_held = 0;
  for (const internal::HeldExperts& layer : description.held()) num_held += layer.expert_size();
  families.AddGauge("orrery_expert_held_experts", "Experts held, per layer, copies included.",
                    num_held);
  families.AddGauge("orrery_expert_copies", "Experts held whose home is another shard.",
                    description.heir_offer().num_copies());
  families.AddGauge("orrery_expert_copy_room", "Further experts of others that it may load.",
                    description.heir_offer().room());
}

}  // namespace

void AddMemberMetrics(const MemberDescription& description, const MemberFacts& facts,
                      MetricFamilies& families) {
  families.AddGauge("orrery_build_info", "What runs.", 1,
                    {{"name", description.name()},
                     {"role", RoleName(description.role())},
                     {"version", kVersion},
                     {"model", facts.model},
                     {"numerics_id", description.numerics_id()},
                     {"backend", description.backend()},
                     {"config_hash", description.fingerprint().config_hash()}});
  AddState(description, families);
  AddMemory(description, families);
  switch (description.role()) {
    case internal::ROLE_ROUTER:
      return AddRouter(description, families);
    case internal::ROLE_ATTENTION:
      AddWeights(description, families);
      AddSequences(description.load(), families);
      AddCache(description.load(), families);
      AddPeers(description, families);
      return AddAliases(description.load(), facts, families);
    case internal::ROLE_EXPERT:
      AddWeights(description, families);
      return AddExpert(description, families);
    default:
      return;
  }
}

}  // namespace orrery
