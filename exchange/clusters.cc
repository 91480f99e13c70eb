// The transports that run on every machine, for the conformance tests.

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "exchange/conformance.h"
#include "exchange/factory/rank_exchange.h"
#include "exchange/grpc/grpc_rank.h"
#include "exchange/grpc/grpc_shard.h"
#include "exchange/loopback/loopback.h"
#include "exchange/shm/shm_listener.h"
#include "exchange/shm/shm_rank.h"
#include "exchange/shm/shm_shard.h"
#include "rpc/server.h"

namespace orrery {
namespace {

class LoopbackCluster : public Cluster {
 public:
  explicit LoopbackCluster(const ClusterSpec& spec)
      : loopback_(Loopback::Create({spec.num_ranks, spec.num_shards}, spec.rank_options,
                                   spec.shard_options)
                      .value()) {}
  RankExchange& rank(int rank) override { return loopback_->rank(rank); }
  ShardExchange& shard(int shard) override { return loopback_->shard(shard); }
  void KillShard(int shard) override { loopback_->DisconnectShard(shard); }
  bool ReviveShard(int shard) override {
    loopback_->ReconnectShard(shard);
    return true;
  }

 private:
  std::unique_ptr<Loopback> loopback_;
};

class GrpcCluster : public Cluster {
 public:
  explicit GrpcCluster(const ClusterSpec& spec) : spec_(spec), shards_(spec.num_shards) {
    GrpcRankOptions options{.exchange = spec.rank_options, .max_backoff = absl::Milliseconds(100)};
    for (int shard = 0; shard < spec.num_shards; ++shard) {
      ORRERY_CHECK(StartShard(shard, "127.0.0.1:0"));
      options.peers.push_back({absl::StrCat("shard-", shard), shards_[shard].server->address()});
    }
    for (int rank = 0; rank < spec.num_ranks; ++rank) {
      options.rank_name = absl::StrCat("rank-", rank);
      ranks_.push_back(MakeGrpcRankExchange(options).value());
    }
  }
  RankExchange& rank(int rank) override { return *ranks_[rank]; }
  ShardExchange& shard(int shard) override { return *shards_[shard].exchange; }
  void KillShard(int shard) override { shards_[shard].server->Stop(absl::Now()); }
  bool ReviveShard(int shard) override {
    const std::string address = shards_[shard].server->address();
    shards_[shard].server.reset();
    shards_[shard].exchange.reset();
    return StartShard(shard, address);
  }

 private:
  struct Shard {
    std::unique_ptr<GrpcShardExchange> exchange;
    std::unique_ptr<Server> server;  // last: goes first
  };
  bool StartShard(int shard, const std::string& address) {
    shards_[shard].exchange = MakeGrpcShardExchange({.exchange = spec_.shard_options}).value();
    shards_[shard].exchange->SetAccepting(true);
    auto server = Server::Start({.address = address}, {shards_[shard].exchange->service()});
    if (!server.ok()) return false;
    shards_[shard].server = *std::move(server);
    return true;
  }

  const ClusterSpec spec_;
  std::vector<Shard> shards_;
  std::vector<std::unique_ptr<RankExchange>> ranks_;
};

class ShmCluster : public Cluster {
 public:
  explicit ShmCluster(const ClusterSpec& spec) : spec_(spec), shards_(spec.num_shards) {
    static std::atomic<int> num_clusters = 0;
    // Not the process id: sandboxes may share the names of sockets and not those of processes.
    static const unsigned run = std::random_device()();
    const int cluster = num_clusters++;
    ShmRankOptions options{.exchange = spec.rank_options, .max_backoff = absl::Milliseconds(100)};
    for (int shard = 0; shard < spec.num_shards; ++shard) {
      options.shard_names.push_back(absl::StrCat("test-", run, "-", cluster, "-", shard));
    }
    names_ = options.shard_names;
    for (int shard = 0; shard < spec.num_shards; ++shard) ORRERY_CHECK(StartShard(shard));
    for (int rank = 0; rank < spec.num_ranks; ++rank) {
      options.rank_name = absl::StrCat("rank-", rank);
      ranks_.push_back(MakeShmRankExchange(options).value());
    }
  }
  RankExchange& rank(int rank) override { return *ranks_[rank]; }
  ShardExchange& shard(int shard) override { return *shards_[shard]; }
  void KillShard(int shard) override { shards_[shard]->Close(); }
  bool ReviveShard(int shard) override {
    shards_[shard].reset();
    return StartShard(shard);
  }

 private:
  bool StartShard(int shard) {
    auto exchange = MakeShmShardExchange({.exchange = spec_.shard_options, .name = names_[shard]});
    if (!exchange.ok()) return false;
    shards_[shard] = *std::move(exchange);
    shards_[shard]->SetAccepting(true);
    return true;
  }

  const ClusterSpec spec_;
  std::vector<std::string> names_;
  std::vector<std::unique_ptr<ShmShardExchange>> shards_;
  std::vector<std::unique_ptr<RankExchange>> ranks_;
};

class AutoCluster : public Cluster {
 public:
  explicit AutoCluster(const ClusterSpec& spec) : spec_(spec), shards_(spec.num_shards) {
    RankExchangeOptions options{.exchange = spec.rank_options,
                                .max_backoff = absl::Milliseconds(100)};
    for (int shard = 0; shard < spec.num_shards; ++shard) {
      ORRERY_CHECK(StartShard(shard, "127.0.0.1:0"));
      options.peers.push_back({absl::StrCat("shard-", shard), shards_[shard].server->address()});
    }
    for (int rank = 0; rank < spec.num_ranks; ++rank) {
      options.rank_name = absl::StrCat("rank-", rank);
      ranks_.push_back(MakeRankExchange(options).value());
    }
  }
  RankExchange& rank(int rank) override { return *ranks_[rank]; }
  ShardExchange& shard(int shard) override { return *shards_[shard].exchange; }
  void KillShard(int shard) override {
    shards_[shard].door.reset();
    shards_[shard].server->Stop(absl::Now());
    // A rank believes in the way that is left until it hears of its end.
    for (const auto& rank : ranks_) {
      while (rank->connected(shard)) std::this_thread::yield();
    }
  }
  bool ReviveShard(int shard) override {
    const std::string address = shards_[shard].server->address();
    shards_[shard] = {};
    return StartShard(shard, address);
  }

 private:
  struct Shard {
    std::unique_ptr<GrpcShardExchange> exchange;
    std::unique_ptr<Server> server;
    std::unique_ptr<ShmListener> door;
  };
  bool StartShard(int index, const std::string& address) {
    Shard& shard = shards_[index];
    shard.exchange = MakeGrpcShardExchange({.exchange = spec_.shard_options}).value();
    auto server = Server::Start({.address = address}, {shard.exchange->service()});
    if (!server.ok()) return false;
    shard.server = *std::move(server);
    auto door =
        ShmListener::Listen({.exchange = spec_.shard_options, .name = shard.server->address()},
                            shard.exchange->endpoint());
    if (!door.ok()) return false;
    shard.door = *std::move(door);
    shard.exchange->SetAccepting(true);
    shard.door->SetAccepting(true);
    return true;
  }

  const ClusterSpec spec_;
  std::vector<Shard> shards_;
  std::vector<std::unique_ptr<RankExchange>> ranks_;
};

template <typename T>
std::unique_ptr<Cluster> Make(const ClusterSpec& spec) {
  return std::make_unique<T>(spec);
}

}  // namespace

std::vector<TransportToTest> TransportsToTest() {
  return {{"Loopback", &Make<LoopbackCluster>},
          {"Grpc", &Make<GrpcCluster>},
          {"Shm", &Make<ShmCluster>},
          {"Auto", &Make<AutoCluster>}};  // shards that offer both, and ranks that choose
}

}  // namespace orrery
