#include "exchange/conformance.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
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

constexpr size_t kRowBytes = 20;
constexpr size_t kResultBytes = 36;
constexpr std::byte kUntouched{0xee};

// What a shard makes of a row: any function of (layer, expert, row) does.
void ExpertFunction(int layer, int expert, absl::Span<const std::byte> row,
                    absl::Span<std::byte> result) {
  for (size_t i = 0; i < result.size(); ++i) {
    result[i] = static_cast<std::byte>(static_cast<int>(row[i % row.size()]) + 7 * expert + layer +
                                       static_cast<int>(i));
  }
}

}  // namespace

std::unique_ptr<Cluster> MakeLoopbackCluster(const ClusterSpec& spec) {
  return std::make_unique<LoopbackCluster>(spec);
}
std::unique_ptr<Cluster> MakeGrpcCluster(const ClusterSpec& spec) {
  return std::make_unique<GrpcCluster>(spec);
}
std::unique_ptr<Cluster> MakeShmCluster(const ClusterSpec& spec) {
  return std::make_unique<ShmCluster>(spec);
}
std::unique_ptr<Cluster> MakeAutoCluster(const ClusterSpec& spec) {
  return std::make_unique<AutoCluster>(spec);
}

ExchangeOptions SmallRows() {
  return {.numerics_id = "f32/test", .row_bytes = kRowBytes, .result_bytes = kResultBytes};
}

absl::Time Far() { return absl::Now() + absl::Minutes(2); }

InboundGroup ReceiveGroup(ShardExchange& shard) {
  std::optional<InboundGroup> group = shard.Receive(Far());
  EXPECT_TRUE(group.has_value());
  return group.value_or(InboundGroup());
}

InboundFrame ReceiveOne(ShardExchange& shard) {
  InboundGroup group = ReceiveGroup(shard);
  EXPECT_EQ(group.size(), 1u);
  return group.empty() ? InboundFrame() : std::move(group[0]);
}

void Answer(ShardExchange& shard, const ExchangeOptions& options, const InboundFrame& frame,
            const StateOf& state_of) {
  std::vector<EntryState> states(frame.entries.size(), EntryState::kDone);
  std::vector<std::byte> results(states.size() * options.result_bytes);
  for (size_t i = 0; i < states.size(); ++i) {
    const auto [row, expert] = frame.entries[i];
    if (state_of) states[i] = state_of(frame.layer, expert);
    ExpertFunction(frame.layer, expert, {frame.rows + row * options.row_bytes, options.row_bytes},
                   absl::MakeSpan(results).subspan(i * options.result_bytes, options.result_bytes));
  }
  shard.Reply(frame, states, results);
}

ServingShard::ServingShard(ShardExchange& shard, const ExchangeOptions& options, StateOf state_of)
    : shard_(shard), thread_([this, options, state_of] {
        while (const std::optional<InboundGroup> group = shard_.Receive(Far())) {
          for (const InboundFrame& frame : *group) {
            num_frames_ += 1;
            EXPECT_EQ(frame.layer, group->front().layer);
            Answer(shard_, options, frame, state_of);
          }
        }
      }) {}

int ServingShard::Stop() {
  shard_.Close();
  if (thread_.joinable()) thread_.join();
  return num_frames_;
}

Work::Work(const ExchangeOptions& options, RoutedShape shape, std::vector<int> holders, int seed)
    : options(options), shape(shape), holders(std::move(holders)) {
  std::mt19937 rng(seed);
  rows.resize(shape.num_rows * options.row_bytes);
  for (std::byte& byte : rows) byte = static_cast<std::byte>(rng());
  for (int row = 0; row < shape.num_rows; ++row) {
    std::vector<int32_t> ids(this->holders.size());
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    std::shuffle(ids.begin(), ids.end(), rng);
    expert_ids.insert(expert_ids.end(), ids.begin(), ids.begin() + shape.topk);
  }
  plan = PlanRows(shape, expert_ids, this->holders).dispatch;
  results.assign(expert_ids.size() * options.result_bytes, kUntouched);
}

void Work::ExpectResults(int layer, const std::function<bool(int expert)>& done) const {
  std::vector<std::byte> expected(options.result_bytes);
  for (size_t i = 0; i < expert_ids.size(); ++i) {
    std::fill(expected.begin(), expected.end(), kUntouched);
    if (!done || done(expert_ids[i])) {
      ExpertFunction(layer, expert_ids[i],
                     {rows.data() + i / shape.topk * options.row_bytes, options.row_bytes},
                     absl::MakeSpan(expected));
    }
    EXPECT_TRUE(
        std::equal(expected.begin(), expected.end(), results.begin() + i * options.result_bytes))
        << "result " << i << " of expert " << expert_ids[i];
  }
}

void ExpectAll(const CombineReport& report, size_t num_entries, EntryState state) {
  EXPECT_EQ(report.size(), num_entries);
  for (const EntryOutcome& outcome : report) EXPECT_EQ(outcome.state, state);
}

std::unique_ptr<Cluster> ExchangeTest::Make(const ClusterSpec& spec) {
  std::unique_ptr<Cluster> cluster = GetParam()(spec);
  for (int rank = 0; rank < spec.num_ranks; ++rank) {
    for (int shard = 0; shard < spec.num_shards; ++shard) {
      EXPECT_TRUE(cluster->rank(rank).AwaitConnected(shard, Far()));
    }
  }
  return cluster;
}

void ExchangeTest::ExpectDone(RankExchange& rank, Ticket ticket, Work& work, int layer) {
  EXPECT_TRUE(rank.Combine(ticket, Far(), absl::MakeSpan(work.results)).empty());
  work.ExpectResults(layer);
}

}  // namespace orrery
