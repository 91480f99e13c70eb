#include "services/expert/expert_server.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/processors.h"
#include "checkpoint/file.h"
#include "device/memory_room.h"
#include "exchange/buffer_bytes.h"
#include "exchange/factory/layer.h"
#include "model/cluster_numerics.h"
#include "model/cluster_threads.h"
#include "model/identity/fingerprint_proto.h"
#include "model/weight_files.h"
#include "placement/placement.h"
#include "rpc/cluster_file.h"
#include "rpc/cluster_tls.h"
#include "rpc/memory_budget.h"
#include "services/expert/host_memory.h"

namespace orrery {
namespace {

int IndexOf(const internal::ClusterFile& cluster, const ClusterMember* member) {
  for (int i = 0; i < cluster.expert_size(); ++i) {
    if (&cluster.expert(i) == member) return i;
  }
  return -1;
}

std::string DescribeHome(ExpertRange home) {
  if (home.size() == 0) return "no experts of its own";
  return absl::StrCat("experts ", home.begin, "-", home.end - 1, " of every MoE layer");
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertServer>> ExpertServer::Start(
    const ExpertServerOptions& options) {
  const internal::ClusterFile& cluster = options.cluster;
  ASSIGN_OR_RETURN(const ClusterMember* me,
                   FindMember(cluster, internal::ROLE_EXPERT, options.name));
  const std::string model_dir = ModelDir(cluster, *me);
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(model_dir));
  if (config.num_experts == 0) {
    return absl::FailedPreconditionError(absl::StrCat("the model in ", model_dir,
                                                      " is dense: it has no experts, and the ",
                                                      "cluster file should list no expert shards"));
  }
  const Numerics numerics = NumericsFromProto(cluster.numerics());

  ASSIGN_OR_RETURN(const CpuThreads threads, ThreadsFromProto(cluster, *me, NumUsableProcessors()));
  RETURN_IF_ERROR(KeepToProcessors(threads.cpus));
  std::unique_ptr<ExpertServer> expert(new ExpertServer());
  expert->cluster_ = cluster;
  const Backend backend = BackendFromProto(cluster.numerics());
  ASSIGN_OR_RETURN(expert->device_, MakeDevice(backend, me->gpu()));
  expert->stream_ = expert->device_->MakeStream();
  ASSIGN_OR_RETURN(expert->kernels_,
                   MakeKernels(backend, options.cpu_variant, expert->stream_.get(), threads));
  const std::string numerics_id = NumericsId(numerics, expert->kernels_->family());
  const int shard_index = IndexOf(cluster, me);
  const ExpertRange range = HomePlacement(config.num_experts, SpareShards(cluster))[shard_index];

  internal::MemberDescription description;
  description.set_name(options.name);
  description.set_role(internal::ROLE_EXPERT);
  description.set_state(internal::MEMBER_STATE_LOADING);
  description.set_numerics_id(numerics_id);
  description.set_backend(DescribeBackend(backend, *expert->kernels_, *expert->device_, threads));
  description.set_total_bytes(
      Shard::EstimateBytes(config, range, cluster.limits().num_draft_tokens() > 0));
  expert->member_ = std::make_unique<MemberService>(std::move(description));
  expert->member_->SetLive([loaded = &expert->loaded_bytes_](internal::MemberDescription& live) {
    live.set_loaded_bytes(*loaded);
  });

  GrpcShardOptions exchange_options;
  exchange_options.exchange.numerics_id = numerics_id;
  exchange_options.name = options.name;
  exchange_options.exchange.row_bytes = EncodedRowBytes(numerics.row_format, config.hidden_size);
  exchange_options.exchange.result_bytes =
      EncodedRowBytes(numerics.result_format(), config.hidden_size);
  exchange_options.exchange.max_queued_bytes =
      QueuedBytesFor(exchange_options.exchange,
                     int64_t{cluster.limits().max_step_rows()} * config.num_experts_per_token);
  exchange_options.exchange.max_inbox_bytes =
      InboxBytesFor(exchange_options.exchange, cluster.attention_size());
  expert->exchange_options_ = exchange_options.exchange;
  if (cluster.exchange() == internal::EXCHANGE_NCCL) {
    ASSIGN_OR_RETURN(expert->grpc_layer_,
                     MakeNcclLayerOfThisBuild(cluster.attention_size(), me->gpu()));
    exchange_options.layer = expert->grpc_layer_.get();
  }
  ASSIGN_OR_RETURN(expert->exchange_, MakeGrpcShardExchange(exchange_options));

  ServerOptions server_options;
  server_options.address = me->address();
  server_options.listen_address = options.listen_address;
  server_options.tls = ShardTls(cluster);
  server_options.allow_plain_text = cluster.allow_plain_text();
  server_options.health_name = "orrery.internal.Expert";
  server_options.reflection = options.reflection;
  server_options.max_buffer_bytes = kServerBufferBytes;
  ASSIGN_OR_RETURN(expert->server_,
                   Server::Start(server_options, {expert->member_.get(), &expert->placement_,
                                                  expert->exchange_->service()}));
  ASSIGN_OR_RETURN(expert->monitor_,
                   Monitor::Start(options.monitoring_address, expert->member_.get(),
                                  {.model = cluster.model().name()}));
  RETURN_IF_ERROR(expert->ListenInSharedMemory(cluster, *me, exchange_options.exchange));
  LogInfo("listening on ", expert->server_->address(), ", loading ", DescribeHome(range), " from ",
          model_dir);
  RETURN_IF_ERROR(expert->Load(options, shard_index, model_dir, config, numerics));
  return expert;
}

absl::Status ExpertServer::ListenInSharedMemory(const internal::ClusterFile& cluster,
                                                const ClusterMember& me,
                                                const ExchangeOptions& exchange) {
  if (cluster.exchange() == internal::EXCHANGE_GRPC ||
      cluster.exchange() == internal::EXCHANGE_NCCL) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(MakeCudaIpc(cluster, me.gpu()));
  absl::StatusOr<std::unique_ptr<ShmListener>> listener =
      ShmListener::Listen({.exchange = exchange, .name = me.address(), .layer = shm_layer_.get()},
                          exchange_->endpoint());
  if (listener.ok()) {
    shm_ = *std::move(listener);
  } else if (cluster.exchange() == internal::EXCHANGE_SHM ||
             cluster.exchange() == internal::EXCHANGE_CUDA_IPC) {
    return listener.status();
  } else {
    LogWarning("ranks on this host come over gRPC: ", listener.status().ToString());
  }
  return absl::OkStatus();
}

// Where it is asked for, or can be: as exchange/factory/rank_exchange.h has it for the other side.
absl::Status ExpertServer::MakeCudaIpc(const internal::ClusterFile& cluster, int gpu) {
  const bool is_asked_for = cluster.exchange() == internal::EXCHANGE_CUDA_IPC;
  const bool can_be = cluster.exchange() == internal::EXCHANGE_AUTO &&
                      BackendFromProto(cluster.numerics()) == Backend::kCuda;
  if (!is_asked_for && !can_be) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<ChannelLayer>> layer =
      MakeCudaIpcLayerOfThisBuild(cluster.attention_size(), gpu);
  if (layer.ok()) {
    shm_layer_ = *std::move(layer);
  } else if (is_asked_for) {
    return layer.status();
  } else {
    LogWarning("exchange: no cuda_ipc: ", layer.status().ToString());
  }
  return absl::OkStatus();
}

void ExpertServer::SetAccepting(bool accepting) {
  exchange_->SetAccepting(accepting);
  if (shm_ != nullptr) shm_->SetAccepting(accepting);
}

absl::Status ExpertServer::TakeMemory(const ShardParts& parts, int shard_index) {
  const ClusterMember& me = cluster_.expert(shard_index);
  const ExpertRange range =
      HomePlacement(parts.config.num_experts, SpareShards(cluster_))[shard_index];
  ASSIGN_OR_RETURN(const Shard::Memory counted, Shard::CountMemory(parts, range));
  max_copies_ = MaxCopies(cluster_, parts.config, parts.with_mtp, shard_index, counted.expert);
  const bool is_on_gpu = BackendFromProto(cluster_.numerics()) == Backend::kCuda;
  const MemoryBudget budget = MemoryBudgetOf(cluster_, me);
  const MemoryNeed need = ShardHostNeed(
      {.counted = counted,
       .is_on_gpu = is_on_gpu,
       .max_copies = max_copies_,
       .num_ranks = cluster_.attention_size(),
       .exchange = exchange_options_,
       .parsed_bytes = ParsedBytes({JoinPath(ModelDir(cluster_, me), kTensorIndexFile)})});
  member_->Update([&](internal::MemberDescription& description) {
    description.set_needed_bytes(static_cast<int64_t>(need.total()));
    description.set_budget_bytes(static_cast<int64_t>(budget.bytes));
  });
  RETURN_IF_ERROR(TakeBudget(me.name(), need, budget));
  return is_on_gpu ? ReserveGpu(counted, range) : absl::OkStatus();
}

absl::Status ExpertServer::ReserveGpu(const Shard::Memory& need, ExpertRange range) {
  ASSIGN_OR_RETURN(const MemoryBytes memory, device_->memory());
  const MemoryNeed parts = need.DeviceNeed();
  RETURN_IF_ERROR(CheckFits(absl::StrCat("the shard with ", DescribeHome(range)), parts,
                            RoomOf(device_->name(), memory)));
  RETURN_IF_ERROR(device_->Reserve(need.total()));
  LogInfo(device_->name(), ": ", need.total(), " of ", memory.free,
          " free bytes taken: ", parts.ToString());
  return absl::OkStatus();
}

absl::Status ExpertServer::Load(const ExpertServerOptions& options, int shard_index,
                                const std::string& model_dir, const ModelConfig& config,
                                const Numerics& numerics) {
  const absl::Time begin = absl::Now();
  const std::string numerics_id = NumericsId(numerics, kernels_->family());
  ASSIGN_OR_RETURN(files_, WeightFiles::Open(model_dir, numerics_id));
  const ShardParts parts = {.files = &*files_,
                            .config = config,
                            .numerics = numerics,
                            .with_mtp = options.cluster.limits().num_draft_tokens() > 0,
                            .kernels = kernels_.get(),
                            .device = device_.get(),
                            .stream = stream_.get()};
  const ExpertRange range =
      HomePlacement(config.num_experts, SpareShards(options.cluster))[shard_index];
  RETURN_IF_ERROR(TakeMemory(parts, shard_index));
  ASSIGN_OR_RETURN(shard_, Shard::Load(parts, range, &loaded_bytes_));
  if (options.flips.has_value()) shard_->SetHarm(*options.flips);
  ASSIGN_OR_RETURN(const Fingerprint fingerprint,
                   files_->ComputeFingerprint(FingerprintScope::kOpenedFiles));
  ASSIGN_OR_RETURN(copy_host_, CopyHost::Create({.cluster = &cluster_,
                                                 .shard_index = shard_index,
                                                 .max_copies = max_copies_,
                                                 .shard_parts = parts,
                                                 .cpu_variant = options.cpu_variant,
                                                 .numerics_id = numerics_id,
                                                 .shard = shard_.get(),
                                                 .member = member_.get(),
                                                 .loaded_bytes = &loaded_bytes_}));
  const std::vector<LayerExperts> held = shard_->held();
  loop_ = std::make_unique<ServeLoop>(exchange_.get(), shard_.get());
  member_->SetLive([this](internal::MemberDescription& live) {
    const ServeCounters counters = loop_->counters();
    live.set_loaded_bytes(loaded_bytes_);
    copy_host_->Describe(live);
    internal::ShardLoad* load = live.mutable_shard_load();
    load->set_frames(static_cast<int64_t>(counters.frames));
    load->set_groups(static_cast<int64_t>(counters.groups));
    load->set_rows(static_cast<int64_t>(counters.rows));
    const InboxCounters dropped = exchange_->counters();
    load->set_abandoned_frames(static_cast<int64_t>(dropped.abandoned));
    load->set_orphaned_frames(static_cast<int64_t>(dropped.orphaned));
  });
  monitor_->SetDetail(
      {.heartbeat = &loop_->heartbeat(), .add_metrics = [this](MetricFamilies& families) {
         families.AddHistogram("orrery_expert_group_seconds", "Time to compute a group of frames.",
                               loop_->group_seconds().Read());
       }});
  Announce(fingerprint, held);
  copy_host_->Start(loop_.get());
  placement_.Serve(shard_.get(), &copy_host_->copies());
  LogInfo("ready: ", loaded_bytes_.load(), " bytes in ", absl::FormatDuration(absl::Now() - begin),
          " from ", files_->Describe(), ", ", fingerprint.ToString());
  return absl::OkStatus();
}

void ExpertServer::Announce(const Fingerprint& fingerprint,
                            absl::Span<const LayerExperts> held_experts) {
  SetAccepting(true);
  member_->Update([&](internal::MemberDescription& description) {
    description.set_state(internal::MEMBER_STATE_READY);
    description.set_total_bytes(loaded_bytes_);
    *description.mutable_fingerprint() = ToProto(fingerprint);
    for (const LayerExperts& layer : held_experts) {
      internal::HeldExperts* held = description.add_held();
      held->set_layer(layer.layer);
      held->mutable_expert()->Add(layer.experts.begin(), layer.experts.end());
    }
  });
  server_->SetServing(true);
}

ExpertServer::~ExpertServer() { Stop(absl::Now()); }

void ExpertServer::BeginDrain() {
  member_->Update([](internal::MemberDescription& description) {
    description.set_state(internal::MEMBER_STATE_DRAINING);
  });
  server_->SetServing(false);
  drain_.emplace(absl::Now());
}

bool ExpertServer::is_needed() {
  return drain_.has_value() && drain_->IsNeeded({.num_connections = exchange_->num_connections(),
                                                 .num_frames = loop_->counters().frames},
                                                absl::Now());
}

void ExpertServer::Stop(absl::Time deadline) {
  if (server_ == nullptr) return;
  member_->Update([](internal::MemberDescription& description) {
    description.set_state(internal::MEMBER_STATE_STOPPING);
  });
  server_->SetServing(false);
  SetAccepting(false);
  placement_.Serve(nullptr, nullptr);
  if (copy_host_ != nullptr) copy_host_->Stop();
  if (loop_ != nullptr) loop_->Stop();
  exchange_->Close();
  shm_.reset();
  server_->Stop(deadline);
  if (monitor_ != nullptr) monitor_->Stop();
}

}  // namespace orrery
