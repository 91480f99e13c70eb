#include "services/attention/attention_server.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/processors.h"
#include "checkpoint/file.h"
#include "checkpoint/kv_cache_size.h"
#include "device/memory_room.h"
#include "exchange/buffer_bytes.h"
#include "exchange/factory/rank_exchange.h"
#include "model/cluster_numerics.h"
#include "model/cluster_threads.h"
#include "model/identity/fingerprint_proto.h"
#include "model/weight_files.h"
#include "rpc/channel.h"
#include "rpc/cluster_tls.h"
#include "rpc/memory_budget.h"
#include "rpc/monitoring/metric_families.h"
#include "services/attention/host_memory.h"

namespace orrery {
namespace {

// For the progress bar only: small tensors, scales and other dtypes are not counted.
int64_t EstimateBytes(const ModelConfig& config, bool with_mtp) {
  const int64_t hidden = config.hidden_size;
  const int64_t heads = config.num_heads;
  int64_t per_layer = 2 * hidden * config.intermediate_size;
  if (config.attention == ModelConfig::AttentionKind::kMla) {
    per_layer +=
        heads * (config.qk_nope_head_dim + config.v_head_dim) * (hidden + config.kv_lora_rank);
  } else {
    per_layer += 2 * hidden * config.head_dim * (heads + config.num_kv_heads);
  }
  const int64_t weights =
      (config.num_layers + (with_mtp ? 1 : 0)) * per_layer + 2 * hidden * config.vocab_size;
  return weights * (config.weight_block_outputs > 0 ? 1 : 2);
}

void ToProto(const EngineLoad& load, internal::Load& proto) {
  proto.set_running_requests(load.num_running);
  proto.set_waiting_requests(load.num_waiting);
  proto.set_kv_blocks_used(load.num_kv_blocks - load.num_free_kv_blocks);
  proto.set_kv_blocks_total(load.num_kv_blocks);
  proto.set_kv_blocks_cached(load.num_cached_kv_blocks);
  proto.set_kv_blocks_leaked(load.num_leaked_kv_blocks);
  proto.set_tokens_in(load.tokens_in);
  proto.set_tokens_out(load.tokens_out);
  proto.set_prefix_hit_tokens(load.prefix_hit_tokens);
  proto.set_prefix_miss_tokens(load.prefix_miss_tokens);
  proto.set_kv_evictions(load.kv_evictions);
  proto.set_preemptions(load.preemptions);
  proto.set_drafted_tokens(load.drafted_tokens);
  proto.set_accepted_draft_tokens(load.accepted_draft_tokens);
  proto.set_steps(load.steps);
}

Transport TransportFromProto(internal::Exchange exchange) {
  switch (exchange) {
    case internal::EXCHANGE_GRPC:
      return Transport::kGrpc;
    case internal::EXCHANGE_SHM:
      return Transport::kShm;
    case internal::EXCHANGE_NCCL:
      return Transport::kNccl;
    case internal::EXCHANGE_CUDA_IPC:
      return Transport::kCudaIpc;
    default:
      return Transport::kAuto;
  }
}

HedgeOptions HedgeFromLimits(const internal::Limits& limits) {
  return {.min_patience = absl::Milliseconds(limits.min_hedge_ms()),
          .max_patience = absl::Milliseconds(limits.max_hedge_ms()),
          .max_hedge_share = limits.max_hedge_percent() / 100.0,
          .max_saved_entries = HedgeOptions().max_saved_entries};
}

// Of the server. Requests that arrive are short; those that are open are as many as the engine has places, for new
// ones and for replays.
size_t MaxBufferBytes(const internal::Limits& limits) {
  return ServerOptions().max_buffer_bytes +
         4 * size_t{kCallBufferBytes} *
             (limits.max_running_sequences() + limits.max_waiting_requests());
}

absl::Status CheckMembers(const ModelConfig& config, int num_shards, const std::string& model_dir) {
  if (config.num_experts > 0 && num_shards == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the model in ", model_dir, " has ", config.num_experts,
                     " experts per layer, but the cluster file lists no expert shard"));
  }
  if (config.num_experts == 0 && num_shards > 0) {
    return absl::FailedPreconditionError(absl::StrCat("the model in ", model_dir,
                                                      " is dense, but the cluster file lists ",
                                                      num_shards, " expert shards; remove them"));
  }
  return absl::OkStatus();
}

void AddTo(const RankMetrics& metrics, MetricFamilies& families) {
  families.AddHistogram("orrery_attention_step_seconds", "Time of a step through all layers.",
                        metrics.step_seconds.Read());
  families.AddHistogram("orrery_attention_step_rows", "Rows in a step.", metrics.step_rows.Read());
  for (size_t peer = 0; peer < metrics.peers.size(); ++peer) {
    families.AddHistogram("orrery_attention_exchange_seconds",
                          "From rows on their way to a shard to its answer.",
                          metrics.exchange_seconds[peer].Read(), {{"peer", metrics.peers[peer]}});
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<AttentionServer>> AttentionServer::Start(
    const AttentionServerOptions& options) {
  const internal::ClusterFile& cluster = options.cluster;
  ASSIGN_OR_RETURN(const ClusterMember* me,
                   FindMember(cluster, internal::ROLE_ATTENTION, options.name));
  const std::string model_dir = ModelDir(cluster, *me);
  std::unique_ptr<AttentionServer> rank(new AttentionServer());
  ASSIGN_OR_RETURN(rank->config_, ReadModelConfig(model_dir));
  RETURN_IF_ERROR(CheckMembers(rank->config_, cluster.expert_size(), model_dir));
  rank->numerics_ = NumericsFromProto(cluster.numerics());
  const int wanted = cluster.limits().max_context_tokens();
  rank->max_context_tokens_ =
      std::min(wanted > 0 ? wanted : rank->config_.max_positions, rank->config_.max_positions);
  rank->num_draft_tokens_ = cluster.limits().num_draft_tokens();
  rank->kv_cache_tokens_ = KvCacheTokens(rank->config_, cluster.limits().kv_cache_bytes(),
                                         static_cast<int>(DTypeBytes(rank->numerics_.kv_format())),
                                         rank->num_draft_tokens_ > 0);
  // Drafts stand behind the last token.
  rank->max_context_tokens_ = static_cast<int>(std::min<int64_t>(
      rank->max_context_tokens_, rank->kv_cache_tokens_ - rank->num_draft_tokens_));

  ASSIGN_OR_RETURN(const CpuThreads threads, ThreadsFromProto(cluster, *me, NumUsableProcessors()));
  RETURN_IF_ERROR(KeepToProcessors(threads.cpus));
  const Backend backend = BackendFromProto(cluster.numerics());
  ASSIGN_OR_RETURN(rank->device_, MakeDevice(backend, me->gpu()));
  rank->stream_ = rank->device_->MakeStream();
  ASSIGN_OR_RETURN(rank->kernels_,
                   MakeKernels(backend, options.cpu_variant, rank->stream_.get(), threads));
  rank->numerics_id_ = NumericsId(rank->numerics_, rank->kernels_->family());
  RETURN_IF_ERROR(rank->Listen(options, *me, threads));
  RETURN_IF_ERROR(rank->Load(cluster, *me));
  RETURN_IF_ERROR(rank->JoinShards(cluster, *me));
  RETURN_IF_ERROR(rank->StartEngine(cluster));
  return rank;
}

absl::Status AttentionServer::Listen(const AttentionServerOptions& options, const ClusterMember& me,
                                     const CpuThreads& threads) {
  internal::MemberDescription description;
  description.set_name(options.name);
  description.set_role(internal::ROLE_ATTENTION);
  description.set_state(internal::MEMBER_STATE_LOADING);
  description.set_numerics_id(numerics_id_);
  description.set_backend(
      DescribeBackend(BackendFromProto(options.cluster.numerics()), *kernels_, *device_, threads));
  description.set_total_bytes(EstimateBytes(config_, num_draft_tokens_ > 0));
  member_ = std::make_unique<MemberService>(std::move(description));
  member_->SetLive([this](internal::MemberDescription& live) { Describe(live); });
  service_ = std::make_unique<AttentionService>([this] { return ReadyEngine(); });

  ServerOptions server_options;
  server_options.address = me.address();
  server_options.listen_address = options.listen_address;
  server_options.tls =
      MemberTls(options.cluster, internal::ROLE_ATTENTION, {internal::ROLE_ROUTER});
  server_options.allow_plain_text = options.cluster.allow_plain_text();
  server_options.health_name = "orrery.internal.Attention";
  server_options.reflection = options.reflection;
  // The engine has twice as many places, and as many for replays, and is to refuse what exceeds them.
  const internal::Limits& limits = options.cluster.limits();
  server_options.max_buffer_bytes = MaxBufferBytes(limits);
  server_options.max_calls_per_connection =
      std::max(server_options.max_calls_per_connection,
               6 * (limits.max_running_sequences() + limits.max_waiting_requests()));
  ASSIGN_OR_RETURN(server_, Server::Start(server_options, {member_.get(), service_.get()}));
  LogInfo("listening on ", server_->address());
  ASSIGN_OR_RETURN(monitor_, Monitor::Start(options.monitoring_address, member_.get(),
                                            {.model = options.cluster.model().name(),
                                             .kv_block_tokens = kKvBlockTokens}));
  return absl::OkStatus();
}

ModelOptions AttentionServer::MakeModelOptions() const {
  return {.numerics = numerics_,
          .max_positions = max_context_tokens_ + num_draft_tokens_,
          .with_mtp = num_draft_tokens_ > 0};
}

absl::Status AttentionServer::TakeMemory(const WeightFiles& files,
                                         const internal::ClusterFile& cluster,
                                         const ClusterMember& me) {
  const ModelOptions model = MakeModelOptions();
  const EngineOptions engine = MakeEngineOptions(cluster);
  const RankMemoryLimits limits = {.max_positions = model.max_positions,
                                   .with_mtp = model.with_mtp,
                                   .num_kv_blocks = engine.num_kv_blocks,
                                   .step = Engine::StepOptionsOf(engine)};
  ASSIGN_OR_RETURN(const RankMemory need,
                   CountRankMemory(config_, files.item_bytes(config_, numerics_, *kernels_),
                                   numerics_, limits, *kernels_));
  const std::string& model_dir = ModelDir(cluster, me);
  const HostMemoryParts parts = {
      .is_on_gpu = BackendFromProto(cluster.numerics()) == Backend::kCuda,
      .vocab_size = config_.vocab_size,
      .engine = engine,
      .exchange_bytes = RankExchangeBytes(
          MakeExchangeOptions(cluster), cluster.expert_size(),
          int64_t{cluster.limits().max_step_rows()} * config_.num_experts_per_token),
      .connection_bytes = MaxBufferBytes(cluster.limits()),
      .parsed_bytes = ParsedBytes(
          {JoinPath(model_dir, "tokenizer.json"), JoinPath(model_dir, kTensorIndexFile)})};
  const MemoryBudget budget = MemoryBudgetOf(cluster, me);
  const HostMemory memory = PlanHostMemory(need, parts, budget);
  member_->Update([&](internal::MemberDescription& description) {
    description.set_needed_bytes(static_cast<int64_t>(memory.need.total()));
    description.set_budget_bytes(static_cast<int64_t>(budget.bytes));
  });
  RETURN_IF_ERROR(TakeBudget(me.name(), memory.need, budget));
  max_request_bytes_ = memory.max_request_bytes;
  return parts.is_on_gpu ? ReserveGpu(need) : absl::OkStatus();
}

absl::Status AttentionServer::ReserveGpu(const RankMemory& need) {
  ASSIGN_OR_RETURN(const MemoryBytes memory, device_->memory());
  const MemoryNeed parts = DeviceNeed(need);
  RETURN_IF_ERROR(CheckFits("this rank", parts, RoomOf(device_->name(), memory)));
  RETURN_IF_ERROR(device_->Reserve(need.total()));
  LogInfo(device_->name(), ": ", need.total(), " of ", memory.free,
          " free bytes taken: ", parts.ToString());
  return absl::OkStatus();
}

absl::Status AttentionServer::Load(const internal::ClusterFile& cluster, const ClusterMember& me) {
  const absl::Time begin = absl::Now();
  const std::string& model_dir = ModelDir(cluster, me);
  ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::Open(model_dir, numerics_id_));
  RETURN_IF_ERROR(TakeMemory(files, cluster, me));
  ASSIGN_OR_RETURN(Model model, LoadModel(files, config_, MakeModelOptions(), kernels_.get(),
                                          device_.get(), &loaded_bytes_));
  model_ = std::make_unique<Model>(std::move(model));
  // Only stop strings need it, and only they are refused without.
  absl::StatusOr<Tokenizer> tokenizer = Tokenizer::Open(model_dir);
  if (tokenizer.ok()) {
    tokenizer_ = std::make_unique<Tokenizer>(*std::move(tokenizer));
  } else {
    LogWarning("no stop strings: ", tokenizer.status().ToString());
  }
  ASSIGN_OR_RETURN(fingerprint_, files.ComputeFingerprint(FingerprintScope::kPresentFiles));
  LogInfo("loaded ", loaded_bytes_.load(), " bytes in ", absl::FormatDuration(absl::Now() - begin),
          " from ", files.Describe(), ", ", fingerprint_.ToString());
  return absl::OkStatus();
}

ExchangeOptions AttentionServer::MakeExchangeOptions(const internal::ClusterFile& cluster) const {
  ExchangeOptions options;
  options.numerics_id = numerics_id_;
  options.row_bytes = EncodedRowBytes(numerics_.row_format, config_.hidden_size);
  options.result_bytes = EncodedRowBytes(numerics_.result_format(), config_.hidden_size);
  // Of each of two micro-batches: one for each shard, another beside each that is late, as much again for those
  // asked once more, one for an audit and one in court. And the answers that nobody waits for.
  options.max_tickets = 12 * cluster.expert_size() + SecondAnswers::kMaxOpen;
  options.max_queued_bytes = QueuedBytesFor(
      options, int64_t{cluster.limits().max_step_rows()} * config_.num_experts_per_token);
  return options;
}

absl::Status AttentionServer::JoinShards(const internal::ClusterFile& cluster,
                                         const ClusterMember& me) {
  if (config_.num_experts == 0) return absl::OkStatus();
  std::vector<std::string> shard_names;
  for (const ClusterMember& shard : cluster.expert()) shard_names.push_back(shard.name());
  directory_ =
      std::make_unique<ExpertDirectory>(config_, std::move(shard_names),
                                        /*with_mtp=*/num_draft_tokens_ > 0, SpareShards(cluster));
  max_failed_shards_ = cluster.limits().max_failed_shards();
  RankExchangeOptions rank_options;
  rank_options.exchange = MakeExchangeOptions(cluster);
  rank_options.rank_name = me.name();
  rank_options.gpu = me.gpu();
  rank_options.tls = MemberTls(cluster, internal::ROLE_ATTENTION, {internal::ROLE_EXPERT});
  rank_options.transport = TransportFromProto(cluster.exchange());
  rank_options.is_on_gpu = BackendFromProto(cluster.numerics()) == Backend::kCuda;
  ShardWatch::Options watch_options;
  watch_options.fingerprint = fingerprint_;
  watch_options.numerics_id = numerics_id_;
  for (const ClusterMember& shard : cluster.expert()) {
    rank_options.peers.push_back({.name = shard.name(), .address = shard.address()});
    ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel,
                     MakeChannel(shard.address(), rank_options.tls, {.fixed_window = true}));
    watch_options.shards.push_back({.name = shard.name(), .channel = std::move(channel)});
  }
  ASSIGN_OR_RETURN(exchange_, MakeRankExchange(rank_options));
  shard_watch_ = std::make_unique<ShardWatch>(std::move(watch_options), directory_.get());
  return absl::OkStatus();
}

EngineOptions AttentionServer::MakeEngineOptions(const internal::ClusterFile& cluster) const {
  const internal::Limits& limits = cluster.limits();
  EngineOptions options;
  options.scheduler.max_step_rows = limits.max_step_rows();
  options.scheduler.max_prefill_rows = limits.max_prefill_rows();
  options.scheduler.max_running = limits.max_running_sequences();
  options.max_waiting_requests = limits.max_waiting_requests();
  options.max_waiting_tokens = limits.max_waiting_tokens();
  options.max_request_bytes = max_request_bytes_;
  options.max_context_tokens = max_context_tokens_;
  options.num_kv_blocks = static_cast<int>(kv_cache_tokens_ / kKvBlockTokens);
  options.num_draft_tokens = num_draft_tokens_;
  options.tokenizer = tokenizer_.get();
  options.expert_timeout = absl::Milliseconds(limits.expert_timeout_ms());
  return options;
}

absl::Status AttentionServer::StartEngine(const internal::ClusterFile& cluster) {
  const StepParts parts = {.model = model_.get(),
                           .kernels = kernels_.get(),
                           .device = device_.get(),
                           .stream = stream_.get(),
                           .exchange = exchange_.get(),
                           .directory = directory_.get(),
                           .hedge = HedgeFromLimits(cluster.limits()),
                           .audit_one_in = cluster.limits().audit_one_in()};
  const EngineOptions options = MakeEngineOptions(cluster);
  ASSIGN_OR_RETURN(engine_, Engine::Start(parts, options));
  member_->Update([this](internal::MemberDescription& description) {
    description.set_total_bytes(loaded_bytes_);
    *description.mutable_fingerprint() = ToProto(fingerprint_);
  });
  loaded_ = true;
  monitor_->SetDetail(
      {.heartbeat = &engine_->metrics().heartbeat, .add_metrics = [this](MetricFamilies& families) {
         AddTo(engine_->metrics(), families);
         if (directory_ == nullptr) return;
         families.AddGauge("orrery_attention_unheld_experts",
                           "Experts, counted once for each layer, that no shard holds.",
                           directory_->num_missing());
       }});
  server_->SetServing(true);
  LogInfo("context limit ", max_context_tokens_, " tokens, KV cache ", options.num_kv_blocks,
          " blocks of ", kKvBlockTokens, " tokens");
  return absl::OkStatus();
}

absl::StatusOr<Engine*> AttentionServer::ReadyEngine() const {
  if (!loaded_) return absl::UnavailableError("this rank is still loading");
  if (draining_) return absl::UnavailableError("this rank is draining");
  if (shard_watch_ != nullptr) RETURN_IF_ERROR(shard_watch_->Ready());
  return engine_.get();
}

void AttentionServer::Describe(internal::MemberDescription& description) const {
  description.set_loaded_bytes(loaded_bytes_);
  if (!loaded_ || description.state() == internal::MEMBER_STATE_STOPPING) return;
  const absl::Status ready = ReadyEngine().status();
  description.set_state(draining_    ? internal::MEMBER_STATE_DRAINING
                        : ready.ok() ? internal::MEMBER_STATE_READY
                                     : internal::MEMBER_STATE_WAITING);
  if (!ready.ok()) description.add_problems(std::string(ready.message()));
  if (shard_watch_ != nullptr) {
    const std::string uncovered = directory_->Uncovered(max_failed_shards_);
    if (!uncovered.empty()) description.add_problems(uncovered);
    for (internal::PeerView& peer : shard_watch_->Peers()) {
      const int index = description.peers_size();
      const std::string doubt = directory_->Doubt(index);
      if (!doubt.empty()) description.add_problems(absl::StrCat(peer.name(), ": ", doubt));
      peer.set_exchange(std::string(exchange_->carrier(index)));
      peer.set_exchange_problem(exchange_->carrier_problem(index));
      *description.add_peers() = std::move(peer);
    }
  }
  ToProto(engine_->load(), *description.mutable_load());
}

AttentionServer::~AttentionServer() { Stop(absl::Now()); }

void AttentionServer::BeginDrain() {
  draining_ = true;
  server_->SetServing(false);
}

bool AttentionServer::is_needed() const {
  if (engine_ == nullptr) return false;
  const EngineLoad load = engine_->load();
  return load.num_running + load.num_waiting > 0;
}

void AttentionServer::Stop(absl::Time deadline) {
  if (server_ == nullptr) return;
  member_->Update([](internal::MemberDescription& description) {
    description.set_state(internal::MEMBER_STATE_STOPPING);
  });
  server_->SetServing(false);
  // The engine first: it gives up the step under way, so that all requests hear that this rank stops, and
  // go on at another one. A closed exchange would be an error of their own.
  if (engine_ != nullptr) engine_->Stop();
  if (exchange_ != nullptr) exchange_->Close();
  server_->Stop(deadline);
  if (shard_watch_ != nullptr) shard_watch_->Stop();
  if (monitor_ != nullptr) monitor_->Stop();
}

}  // namespace orrery
