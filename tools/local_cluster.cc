#include "tools/local_cluster.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "exchange/grpc/grpc_rank.h"
#include "exchange/shm/shm_rank.h"
#include "placement/placement.h"

namespace orrery {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(10);
constexpr const char* kTransportNames[] = {"loopback", "grpc", "shm"};  // by LocalTransport

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeDeviceOf(const LocalClusterOptions& options) {
  return options.make_device ? options.make_device() : MakeDevice(options.backend, options.gpu);
}

absl::StatusOr<std::unique_ptr<Kernels>> MakeKernelsOf(const LocalClusterOptions& options,
                                                       Stream* stream) {
  if (options.make_kernels) return options.make_kernels(stream);
  return MakeKernels(options.backend, options.cpu_variant, stream,
                     {.num_threads = options.num_threads});
}

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Create(
    const LocalClusterOptions& options) {
  if (options.num_ranks < 1 || options.num_shards < 1) {
    return absl::InvalidArgumentError(absl::StrCat("a cluster of ", options.num_ranks,
                                                   " ranks and ", options.num_shards,
                                                   " shards: at least one of each is needed"));
  }
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(options.model_dir));
  std::unique_ptr<LocalCluster> cluster(new LocalCluster());
  cluster->options_ = options;
  cluster->max_context_tokens_ = options.max_context_tokens > 0
                                     ? std::min(options.max_context_tokens, config.max_positions)
                                     : config.max_positions;
  ASSIGN_OR_RETURN(cluster->device_, MakeDeviceOf(options));
  cluster->ranks_.resize(options.num_ranks);
  for (Rank& rank : cluster->ranks_) {
    ASSIGN_OR_RETURN(rank.processor, cluster->MakeProcessor());
  }
  ASSIGN_OR_RETURN(const WeightFiles files,
                   WeightFiles::Open(options.model_dir,
                                     NumericsId(options.numerics,
                                                cluster->ranks_[0].processor.kernels->family())));
  // Weights are read only, so that all ranks share one copy.
  ASSIGN_OR_RETURN(Model model, LoadModel(files, config,
                                          {.numerics = options.numerics,
                                           .max_positions = cluster->max_context_tokens_,
                                           .with_mtp = options.with_mtp},
                                          cluster->ranks_[0].processor.kernels.get(),
                                          cluster->device_.get(), &cluster->loaded_bytes_));
  cluster->model_ = std::make_unique<Model>(std::move(model));
  if (config.num_experts > 0) {
    RETURN_IF_ERROR(cluster->StartShards(files, config));
    RETURN_IF_ERROR(cluster->ConnectRanks());
  }
  return cluster;
}

absl::StatusOr<LocalCluster::Processor> LocalCluster::MakeProcessor() const {
  Processor processor;
  processor.stream = device_->MakeStream();
  ASSIGN_OR_RETURN(processor.kernels, MakeKernelsOf(options_, processor.stream.get()));
  return processor;
}

ExchangeOptions LocalCluster::MakeExchangeOptions() const {
  const Numerics& numerics = options_.numerics;
  ExchangeOptions exchange;
  exchange.numerics_id = NumericsId(numerics, ranks_[0].processor.kernels->family());
  exchange.row_bytes = EncodedRowBytes(numerics.row_format, model_->config.hidden_size);
  exchange.result_bytes = EncodedRowBytes(numerics.result_format(), model_->config.hidden_size);
  return exchange;
}

absl::Status LocalCluster::StartShards(const WeightFiles& files, const ModelConfig& config) {
  const int num_shards = options_.num_shards;
  const std::vector<ExpertRange> placement =
      DefaultPlacement({.num_experts = config.num_experts, .num_shards = num_shards});
  if (options_.transport == LocalTransport::kLoopback) {
    ASSIGN_OR_RETURN(loopback_,
                     Loopback::Create({.num_ranks = options_.num_ranks, .num_shards = num_shards},
                                      MakeExchangeOptions()));
  }
  shards_.resize(num_shards);
  for (int i = 0; i < num_shards; ++i) {
    ShardHost& host = shards_[i];
    ASSIGN_OR_RETURN(host.processor, MakeProcessor());
    const ShardParts parts = {.files = &files,
                              .config = config,
                              .numerics = options_.numerics,
                              .with_mtp = options_.with_mtp,
                              .kernels = host.processor.kernels.get(),
                              .device = device_.get(),
                              .stream = host.processor.stream.get()};
    ASSIGN_OR_RETURN(host.shard, Shard::Load(parts, placement[i], &loaded_bytes_));
    ASSIGN_OR_RETURN(ShardExchange* const exchange, OpenExchange(i));
    host.loop = std::make_unique<ServeLoop>(exchange, host.shard.get());
  }
  return absl::OkStatus();
}

absl::StatusOr<ShardExchange*> LocalCluster::OpenExchange(int shard) {
  ShardHost& host = shards_[shard];
  switch (options_.transport) {
    case LocalTransport::kLoopback:
      break;
    case LocalTransport::kGrpc: {
      ASSIGN_OR_RETURN(host.exchange, MakeGrpcShardExchange({.exchange = MakeExchangeOptions()}));
      ASSIGN_OR_RETURN(host.server,
                       Server::Start({.address = "127.0.0.1:0"}, {host.exchange->service()}));
      host.exchange->SetAccepting(true);
      return host.exchange.get();
    }
    case LocalTransport::kShm: {
      // Not the process id: sandboxes may share the names of sockets and not those of processes.
      host.shm_name = absl::StrCat("local-", absl::Hex(std::random_device()()), "-", shard);
      ASSIGN_OR_RETURN(host.shm, MakeShmShardExchange(
                                     {.exchange = MakeExchangeOptions(), .name = host.shm_name}));
      host.shm->SetAccepting(true);
      return host.shm.get();
    }
  }
  return &loopback_->shard(shard);
}

absl::StatusOr<std::unique_ptr<RankExchange>> LocalCluster::Connect(int rank) {
  const std::string name = absl::StrCat("attention-", rank);
  if (options_.transport == LocalTransport::kShm) {
    ShmRankOptions shm = {.exchange = MakeExchangeOptions(), .rank_name = name};
    for (const ShardHost& host : shards_) shm.shard_names.push_back(host.shm_name);
    return MakeShmRankExchange(std::move(shm));
  }
  GrpcRankOptions grpc = {.exchange = MakeExchangeOptions(), .rank_name = name};
  for (int i = 0; i < options_.num_shards; ++i) {
    grpc.peers.push_back(
        {.name = absl::StrCat("expert-", i), .address = shards_[i].server->address()});
  }
  return MakeGrpcRankExchange(std::move(grpc));
}

absl::Status LocalCluster::ConnectRanks() {
  for (int r = 0; r < num_ranks(); ++r) {
    Rank& rank = ranks_[r];
    std::vector<std::string> names;
    for (int i = 0; i < options_.num_shards; ++i) names.push_back(absl::StrCat("expert-", i));
    rank.directory = std::make_unique<ExpertDirectory>(config(), names, options_.with_mtp);
    for (int i = 0; i < options_.num_shards; ++i) {
      rank.directory->SetClaim(i, {.held = shards_[i].shard->held()});
    }
    if (loopback_ != nullptr) {
      rank.exchange = &loopback_->rank(r);
      continue;
    }
    ASSIGN_OR_RETURN(rank.own_exchange, Connect(r));
    rank.exchange = rank.own_exchange.get();
  }
  return absl::OkStatus();
}

LocalCluster::~LocalCluster() {
  for (Rank& rank : ranks_) {
    if (rank.own_exchange) rank.own_exchange->Close();
  }
  for (ShardHost& host : shards_) {
    if (host.loop) host.loop->Stop();
    if (host.exchange) host.exchange->Close();
    if (host.server) host.server->Stop(absl::Now());
    if (host.shm) host.shm->Close();
  }
}

std::string LocalCluster::Describe() const {
  const Kernels& kernels = *ranks_[0].processor.kernels;
  const std::string shards =
      config().num_experts == 0
          ? std::string(", no shard (dense)")
          : absl::StrCat(", ", options_.num_shards, options_.num_shards == 1 ? " shard" : " shards",
                         " over ", kTransportNames[static_cast<int>(options_.transport)]);
  return absl::StrCat(std::string(kernels.variant()), ", ", num_ranks(),
                      num_ranks() == 1 ? " rank" : " ranks", shards, ", ",
                      NumericsId(options_.numerics, kernels.family()));
}

StepParts LocalCluster::parts(int rank) const {
  const Rank& parts = ranks_[rank];
  return {.model = model_.get(),
          .kernels = parts.processor.kernels.get(),
          .device = device_.get(),
          .stream = parts.processor.stream.get(),
          .exchange = parts.exchange,
          .directory = parts.directory.get()};
}

}  // namespace orrery
