#include "tests/edge/edge_cluster.h"

#include <atomic>
#include <cstdlib>
#include <functional>
#include <random>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "device/cuda/cuda_device.h"
#include "exchange/cuda_ipc/cuda_ipc_layer.h"
#include "exchange/grpc/grpc_rank.h"
#include "exchange/grpc/grpc_shard.h"
#include "exchange/nccl/nccl_layer.h"
#include "exchange/rank_endpoint.h"
#include "exchange/shm/shm_rank.h"
#include "exchange/shm/shm_shard.h"
#include "rpc/server.h"
#include "tests/cuda/ipc.h"
#include "tests/nccl/stand_in.h"

namespace orrery {
namespace {

constexpr absl::Duration kMaxBackoff = absl::Milliseconds(100);

class GrpcShard : public EdgeShard {
 public:
  GrpcShard(ChannelLayer* layer, const ExchangeOptions& options)
      : exchange_(MakeGrpcShardExchange({.exchange = options, .layer = layer}).value()) {}
  ~GrpcShard() override {
    if (server_ != nullptr) Stop();
  }
  bool Listen(const std::string& address) {
    exchange_->SetAccepting(true);
    auto server = Server::Start({.address = address.empty() ? "127.0.0.1:0" : address},
                                {exchange_->service()});
    if (!server.ok()) return false;
    server_ = *std::move(server);
    return true;
  }
  void Stop() override { server_->Stop(absl::Now()); }
  const std::string& address() const override { return server_->address(); }
  ShardExchange& exchange() override { return *exchange_; }

 private:
  std::unique_ptr<GrpcShardExchange> exchange_;
  std::unique_ptr<Server> server_;  // goes first
};

class ShmShard : public EdgeShard {
 public:
  bool Listen(ChannelLayer* layer, const ExchangeOptions& options, const std::string& address) {
    address_ = address.empty() ? absl::StrCat("test-edge-", std::random_device()()) : address;
    auto exchange = MakeShmShardExchange({.exchange = options, .name = address_, .layer = layer});
    if (!exchange.ok()) return false;
    exchange_ = *std::move(exchange);
    exchange_->SetAccepting(true);
    return true;
  }
  void Stop() override { exchange_->Close(); }
  const std::string& address() const override { return address_; }
  ShardExchange& exchange() override { return *exchange_; }

 private:
  std::string address_;
  std::unique_ptr<ShmShardExchange> exchange_;
};

bool AwaitTrue(const std::function<bool()>& condition) {
  const absl::Time deadline = Far();
  while (!condition() && absl::Now() < deadline) std::this_thread::yield();
  return condition();
}

}  // namespace

std::string_view CarrierName(CarrierKind kind) {
  return kind == CarrierKind::kNccl ? "nccl" : "cuda_ipc";
}
std::string_view BelowName(CarrierKind kind) { return kind == CarrierKind::kNccl ? "grpc" : "shm"; }

EdgeOptions QuickEdges() {
  return {.max_edges = 8,
          .min_row_bytes = 1,
          .operation_timeout = absl::Seconds(1),
          .forming_timeout = absl::Seconds(1),
          .min_backoff = absl::Milliseconds(10),
          .max_backoff = kMaxBackoff};
}

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeLayer(CarrierKind kind,
                                                        const EdgeOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeCudaDevice(0));
  return kind == CarrierKind::kNccl ? MakeNcclLayer({.edges = options}, std::move(device))
                                    : MakeCudaIpcLayer({.edges = options}, std::move(device));
}

std::unique_ptr<RankExchange> MakeEdgeRank(CarrierKind kind, ChannelLayer* layer,
                                           const ExchangeOptions& options, const std::string& name,
                                           const std::vector<std::string>& addresses) {
  ChannelFactory below;
  if (kind == CarrierKind::kNccl) {
    GrpcRankOptions grpc{.exchange = options, .rank_name = name, .max_backoff = kMaxBackoff};
    for (size_t i = 0; i < addresses.size(); ++i) {
      grpc.peers.push_back({absl::StrCat("shard-", i), addresses[i]});
    }
    below = MakeGrpcChannels(grpc).value();
  } else {
    below = MakeShmChannels({.exchange = options,
                             .rank_name = name,
                             .shard_names = addresses,
                             .max_backoff = kMaxBackoff})
                .value();
  }
  return std::make_unique<RankEndpoint>(options, static_cast<int>(addresses.size()),
                                        layer->OverChannels(std::move(below)));
}

std::unique_ptr<EdgeShard> EdgeShard::Start(CarrierKind kind, ChannelLayer* layer,
                                            const ExchangeOptions& options,
                                            const std::string& address) {
  if (kind == CarrierKind::kNccl) {
    auto shard = std::make_unique<GrpcShard>(layer, options);
    if (shard->Listen(address)) return shard;
  } else {
    auto shard = std::make_unique<ShmShard>();
    if (shard->Listen(layer, options, address)) return shard;
  }
  return nullptr;
}

EdgeCluster::EdgeCluster(CarrierKind kind, const ClusterSpec& spec, const EdgeOptions& options)
    : kind_(kind),
      spec_(spec),
      shard_layer_(MakeLayer(kind, options).value()),
      rank_layer_(MakeLayer(kind, options).value()) {
  cuda_on_host::LetProcessesOpenTheirOwn();
  std::vector<std::string> addresses;
  for (int shard = 0; shard < spec.num_shards; ++shard) {
    shards_.push_back(EdgeShard::Start(kind, shard_layer_.get(), spec.shard_options));
    ORRERY_CHECK(shards_.back() != nullptr);
    addresses.push_back(shards_.back()->address());
  }
  for (int rank = 0; rank < spec.num_ranks; ++rank) {
    ranks_.push_back(MakeEdgeRank(kind, rank_layer_.get(), spec.rank_options,
                                  absl::StrCat("rank-", rank), addresses));
  }
}

bool EdgeCluster::ReviveShard(int shard) {
  const std::string address = shards_[shard]->address();
  shards_[shard].reset();
  shards_[shard] = EdgeShard::Start(kind_, shard_layer_.get(), spec_.shard_options, address);
  return shards_[shard] != nullptr;
}

bool EdgeCluster::AwaitUp() const {
  for (const auto& rank : ranks_) {
    for (size_t shard = 0; shard < shards_.size(); ++shard) {
      if (!AwaitCarrier(*rank, static_cast<int>(shard), CarrierName(kind_))) return false;
    }
  }
  return true;
}

bool AwaitCarrier(const RankExchange& rank, int peer, std::string_view carrier) {
  return AwaitTrue([&] { return rank.carrier(peer) == carrier; });
}

bool AwaitProblem(const RankExchange& rank, int peer, std::string_view words) {
  return AwaitTrue([&] { return rank.carrier_problem(peer).find(words) != std::string::npos; });
}

void Misbehave(const std::string& line) {
  nccl_on_host::Faults nccl;
  cuda_on_host::IpcFaults ipc;
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    if (word == "never_joins") nccl.never_joins = ipc.cannot_open = true;
    if (word == "stalls") nccl.stalls = ipc.stalls = true;
    if (word == "fails") {
      nccl.async_error = ncclSystemError;
      ipc.fails = true;
    }
    if (word == "abort_hangs") nccl.abort_hangs = true;
    if (absl::StartsWith(word, "version=")) nccl.version = std::atoi(word.c_str() + 8);
  }
  nccl_on_host::SetFaults(nccl);
  cuda_on_host::SetIpcFaults(ipc);
}

}  // namespace orrery
