// What exchange.h promises, for every transport: each test runs over the loopback and over gRPC
// with real servers on ports that the system picks.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "exchange/exchange.h"
#include "exchange/frame.h"
#include "exchange/grpc/grpc_rank.h"
#include "exchange/grpc/grpc_shard.h"
#include "exchange/loopback/loopback.h"
#include "exchange/plan.h"
#include "gtest/gtest.h"
#include "rpc/server.h"

namespace orrery {
namespace {

// Ranks and shards that are connected; what a test needs of any transport.
class Cluster {
 public:
  virtual ~Cluster() = default;
  virtual RankExchange& rank(int rank) = 0;
  virtual ShardExchange& shard(int shard) = 0;
  virtual void KillShard(int shard) = 0;
  // False if it cannot come back, for reasons outside of the exchange.
  virtual bool ReviveShard(int shard) = 0;
};

struct ClusterSpec {
  int num_ranks = 1;
  int num_shards = 1;
  ExchangeOptions rank_options;
  ExchangeOptions shard_options;
};

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

constexpr size_t kRowBytes = 20;  // odd sizes on purpose
constexpr size_t kResultBytes = 36;
constexpr std::byte kUntouched{0xee};

ExchangeOptions SmallRows() {
  return {.numerics_id = "f32/test", .row_bytes = kRowBytes, .result_bytes = kResultBytes};
}
// A deadline that only a broken exchange reaches.
absl::Time Far() { return absl::Now() + absl::Minutes(2); }

// What a shard makes of a row: any function of (layer, expert, row) does.
void ExpertFunction(int layer, int expert, absl::Span<const std::byte> row,
                    absl::Span<std::byte> result) {
  for (size_t i = 0; i < result.size(); ++i) {
    result[i] = static_cast<std::byte>(static_cast<int>(row[i % row.size()]) + 7 * expert + layer +
                                       static_cast<int>(i));
  }
}

using StateOf = std::function<EntryState(int layer, int expert)>;

// Receives one frame and leaves it to the test when to answer. Empty if none comes.
InboundFrame ReceiveOne(ShardExchange& shard) {
  std::optional<InboundFrame> frame = shard.Receive(Far());
  EXPECT_TRUE(frame.has_value());
  return frame.value_or(InboundFrame());
}

void Answer(ShardExchange& shard, const ExchangeOptions& options, const InboundFrame& frame,
            const StateOf& state_of = nullptr) {
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

// A shard's loop in a thread of its own, until the exchange is closed.
class ServingShard {
 public:
  ServingShard(ShardExchange& shard, const ExchangeOptions& options, StateOf state_of = nullptr)
      : shard_(shard), thread_([this, options, state_of] {
          while (std::optional<InboundFrame> frame = shard_.Receive(Far())) {
            num_frames_ += 1;
            Answer(shard_, options, *frame, state_of);
          }
        }) {}
  ~ServingShard() { Stop(); }
  // How many frames there were.
  int Stop() {
    shard_.Close();
    if (thread_.joinable()) thread_.join();
    return num_frames_;
  }

 private:
  ShardExchange& shard_;
  int num_frames_ = 0;
  std::thread thread_;
};

// Random rows and choices, the plan for them, and the results that they must have.
struct Work {
  Work(const ExchangeOptions& options, RoutedShape shape, std::vector<int> holders, int seed = 1)
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

  // Whether exactly the results for which `done` holds are right, and all others untouched.
  void ExpectResults(int layer, const std::function<bool(int expert)>& done = nullptr) const {
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

  const ExchangeOptions options;
  const RoutedShape shape;
  const std::vector<int> holders;
  std::vector<std::byte> rows;
  std::vector<int32_t> expert_ids;
  DispatchPlan plan;
  std::vector<std::byte> results;
};

void ExpectAll(const CombineReport& report, size_t num_entries, EntryState state) {
  EXPECT_EQ(report.size(), num_entries);
  for (const EntryOutcome& outcome : report) EXPECT_EQ(outcome.state, state);
}

using MakeCluster = std::unique_ptr<Cluster> (*)(const ClusterSpec&);

class ExchangeTest : public ::testing::TestWithParam<MakeCluster> {
 protected:
  std::unique_ptr<Cluster> Make(int num_ranks, int num_shards, const ExchangeOptions& options) {
    return Make({num_ranks, num_shards, options, options});
  }
  std::unique_ptr<Cluster> Make(const ClusterSpec& spec) {
    std::unique_ptr<Cluster> cluster = GetParam()(spec);
    for (int rank = 0; rank < spec.num_ranks; ++rank) {
      for (int shard = 0; shard < spec.num_shards; ++shard) {
        EXPECT_TRUE(cluster->rank(rank).AwaitConnected(shard, Far()));
      }
    }
    return cluster;
  }
  // Dispatches and combines; all must be well.
  static void ExpectDone(RankExchange& rank, Work& work, int layer, Lane lane = Lane::kDecode) {
    const absl::StatusOr<Ticket> ticket = rank.Dispatch(layer, lane, work.plan, work.rows);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    EXPECT_TRUE(rank.Combine(*ticket, Far(), absl::MakeSpan(work.results)).empty());
    work.ExpectResults(layer);
  }
};

TEST_P(ExchangeTest, CombinesAnEmptyPlanAtOnce) {
  const auto cluster = Make(1, 1, SmallRows());
  const absl::StatusOr<Ticket> ticket = cluster->rank(0).Dispatch(0, Lane::kDecode, {}, {});
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  EXPECT_TRUE(cluster->rank(0).Combine(*ticket, Far(), {}).empty());
}

TEST_P(ExchangeTest, WorksWithoutAnyPeer) {
  const auto cluster = Make(1, 0, SmallRows());
  EXPECT_EQ(cluster->rank(0).num_peers(), 0);
  const absl::StatusOr<Ticket> ticket = cluster->rank(0).Dispatch(0, Lane::kDecode, {}, {});
  ASSERT_TRUE(ticket.ok());
  EXPECT_TRUE(cluster->rank(0).Combine(*ticket, Far(), {}).empty());
}

TEST_P(ExchangeTest, BringsEveryRowToItsExpertsAndTheResultsBack) {
  const auto cluster = Make(1, 3, SmallRows());
  std::vector<std::unique_ptr<ServingShard>> serving;
  for (int i = 0; i < 3; ++i) {
    serving.push_back(std::make_unique<ServingShard>(cluster->shard(i), SmallRows()));
  }
  for (int num_rows : {1, 2, 17}) {
    for (Lane lane : {Lane::kDecode, Lane::kBulk}) {
      Work work(SmallRows(), {num_rows, 4}, {0, 1, 2, 2, 1, 0, 2}, num_rows);
      ExpectDone(cluster->rank(0), work, num_rows, lane);
    }
  }
}

TEST_P(ExchangeTest, TakesAllRowsToOneShard) {
  const auto cluster = Make(1, 3, SmallRows());
  ServingShard serving(cluster->shard(1), SmallRows());
  Work work(SmallRows(), {50, 3}, {1, 1, 1, 1, 1});
  ExpectDone(cluster->rank(0), work, 9);
}

TEST_P(ExchangeTest, ServesTwoRanksThatAskTheSameShardAtOnce) {
  const auto cluster = Make(2, 1, SmallRows());
  ServingShard serving(cluster->shard(0), SmallRows());
  const auto ask = [&](int rank) {
    for (int i = 0; i < 20; ++i) {
      Work work(SmallRows(), {5, 2}, {0, 0, 0}, 100 * rank + i);
      ExpectDone(cluster->rank(rank), work, i);
    }
  };
  std::thread other([&] { ask(1); });
  ask(0);
  other.join();
}

TEST_P(ExchangeTest, SplitsWhatDoesNotFitOneFrame) {
  // 40 rows of 50,000 bytes: 2 MB out; two results of 30,001 bytes for each row: 2.4 MB back.
  ExchangeOptions options = SmallRows();
  options.row_bytes = 50'000;
  options.result_bytes = 30'001;
  const auto cluster = Make(1, 1, options);
  ServingShard serving(cluster->shard(0), options);
  Work work(options, {40, 2}, {0, 0, 0, 0});
  ExpectDone(cluster->rank(0), work, 3, Lane::kBulk);
  EXPECT_GE(serving.Stop(), 4);
}

TEST_P(ExchangeTest, ReportsEntriesThatAreNotHeldOrStillLoading) {
  const auto cluster = Make(1, 2, SmallRows());
  const StateOf state_of = [](int, int expert) {
    return expert == 1   ? EntryState::kNotHeld
           : expert == 2 ? EntryState::kLoading
                         : EntryState::kDone;
  };
  ServingShard first(cluster->shard(0), SmallRows(), state_of);
  ServingShard second(cluster->shard(1), SmallRows(), state_of);
  Work work(SmallRows(), {6, 4}, {0, 0, 1, 1});
  const Ticket ticket = cluster->rank(0).Dispatch(5, Lane::kDecode, work.plan, work.rows).value();
  const CombineReport report =
      cluster->rank(0).Combine(ticket, Far(), absl::MakeSpan(work.results));
  ASSERT_EQ(report.size(), 12u);
  for (const EntryOutcome& outcome : report) {
    EXPECT_EQ(outcome.state,
              outcome.entry.expert == 1 ? EntryState::kNotHeld : EntryState::kLoading);
    EXPECT_EQ(outcome.peer, work.holders[outcome.entry.expert]);
  }
  work.ExpectResults(5, [](int expert) { return expert == 0 || expert == 3; });
}

// The ticket was given up at its deadline and its buffer used again by the next one, in the same
// slot. The old answer comes first, then the new one; they travel in order, so when the new one is
// there the old one has been dealt with.
TEST_P(ExchangeTest, ThrowsALateReplyAwayAfterItsBufferWasReused) {
  const auto cluster = Make(1, 1, SmallRows());
  RankExchange& rank = cluster->rank(0);
  ShardExchange& shard = cluster->shard(0);
  Work old_work(SmallRows(), {3, 2}, {0, 0}, 1), new_work(SmallRows(), {3, 2}, {0, 0}, 2);
  std::vector<std::byte>& buffer = new_work.results;

  const Ticket old_ticket = rank.Dispatch(1, Lane::kDecode, old_work.plan, old_work.rows).value();
  const InboundFrame old_frame = ReceiveOne(shard);
  ExpectAll(rank.Combine(old_ticket, absl::Now(), absl::MakeSpan(buffer)), 6, EntryState::kPending);

  const Ticket ticket = rank.Dispatch(1, Lane::kDecode, new_work.plan, new_work.rows).value();
  const InboundFrame frame = ReceiveOne(shard);
  Answer(shard, SmallRows(), old_frame);
  Answer(shard, SmallRows(), frame);
  EXPECT_TRUE(rank.Combine(ticket, Far(), absl::MakeSpan(buffer)).empty());
  new_work.ExpectResults(1);
  EXPECT_EQ(rank.counters().late, 1u);
}

TEST_P(ExchangeTest, LosesWhatAKilledPeerWasAskedAndKeepsTheRest) {
  const auto cluster = Make(1, 2, SmallRows());
  ServingShard alive(cluster->shard(1), SmallRows());
  Work work(SmallRows(), {4, 2}, {0, 1});
  const Ticket ticket = cluster->rank(0).Dispatch(2, Lane::kDecode, work.plan, work.rows).value();
  ReceiveOne(cluster->shard(0));  // it dies with the frame in hand
  cluster->KillShard(0);
  // The deadline is far: only the loss of the connection ends this.
  ExpectAll(cluster->rank(0).Combine(ticket, Far(), absl::MakeSpan(work.results)), 4,
            EntryState::kLost);
  work.ExpectResults(2, [](int expert) { return expert == 1; });

  // From now on it is lost at once.
  EXPECT_FALSE(cluster->rank(0).connected(0));
  const Ticket again = cluster->rank(0).Dispatch(2, Lane::kBulk, work.plan, work.rows).value();
  ExpectAll(cluster->rank(0).Combine(again, Far(), absl::MakeSpan(work.results)), 4,
            EntryState::kLost);
}

TEST_P(ExchangeTest, ReachesAPeerAgainAfterItCameBack) {
  const auto cluster = Make(1, 1, SmallRows());
  Work work(SmallRows(), {2, 1}, {0});
  const Ticket ticket = cluster->rank(0).Dispatch(2, Lane::kDecode, work.plan, work.rows).value();
  cluster->KillShard(0);
  ExpectAll(cluster->rank(0).Combine(ticket, Far(), absl::MakeSpan(work.results)), 2,
            EntryState::kLost);
  if (!cluster->ReviveShard(0)) GTEST_SKIP() << "somebody else took the port";
  ASSERT_TRUE(cluster->rank(0).AwaitConnected(0, Far()));
  ServingShard serving(cluster->shard(0), SmallRows());
  ExpectDone(cluster->rank(0), work, 3);
}

TEST_P(ExchangeTest, LeavesEntriesPendingWhenThePeerIsSilent) {
  const auto cluster = Make(1, 1, SmallRows());
  Work work(SmallRows(), {3, 1}, {0, 0});
  const Ticket ticket = cluster->rank(0).Dispatch(0, Lane::kDecode, work.plan, work.rows).value();
  ExpectAll(cluster->rank(0).Combine(ticket, absl::Now() + absl::Milliseconds(20),
                                     absl::MakeSpan(work.results)),
            3, EntryState::kPending);
  work.ExpectResults(0, [](int) { return false; });
}

TEST_P(ExchangeTest, RefusesAnotherNumericsId) {
  ClusterSpec spec{.rank_options = SmallRows(), .shard_options = SmallRows()};
  spec.shard_options.numerics_id = "bf16/test";
  const auto cluster = Make(spec);
  Work work(SmallRows(), {3, 2}, {0, 0});
  const Ticket ticket = cluster->rank(0).Dispatch(0, Lane::kDecode, work.plan, work.rows).value();
  ExpectAll(cluster->rank(0).Combine(ticket, Far(), absl::MakeSpan(work.results)), 6,
            EntryState::kRefused);
  work.ExpectResults(0, [](int) { return false; });
  EXPECT_FALSE(cluster->shard(0).Receive(absl::Now()).has_value());
}

TEST_P(ExchangeTest, OpensNoMoreThanMaxTickets) {
  ExchangeOptions options = SmallRows();
  options.max_tickets = 2;
  const auto cluster = Make(1, 1, options);
  Work work(options, {1, 1}, {0});
  RankExchange& rank = cluster->rank(0);
  const Ticket first = rank.Dispatch(0, Lane::kDecode, work.plan, work.rows).value();
  ASSERT_TRUE(rank.Dispatch(0, Lane::kDecode, work.plan, work.rows).ok());
  EXPECT_EQ(rank.Dispatch(0, Lane::kDecode, work.plan, work.rows).status().code(),
            absl::StatusCode::kResourceExhausted);
  rank.Combine(first, absl::Now(), absl::MakeSpan(work.results));
  EXPECT_TRUE(rank.Dispatch(0, Lane::kDecode, work.plan, work.rows).ok());
}

TEST_P(ExchangeTest, RefusesAPlanThatMakesNoSense) {
  const auto cluster = Make(1, 1, SmallRows());
  const std::vector<std::byte> rows(2 * kRowBytes);
  const std::vector<DispatchPlan> bad = {
      {{.peer = 1, .entries = {{.row = 0}}}},              // no such peer
      {{.peer = 0, .entries = {{.row = 2}}}},              // no such row
      {{.peer = 0, .entries = {{.row = 1}, {.row = 0}}}},  // out of order
      {{.peer = 0, .entries = {{.row = 0, .expert = -1}}}},
      {{.peer = 0, .entries = {{.row = 0, .result = -1}}}},
  };
  for (const DispatchPlan& plan : bad) {
    EXPECT_EQ(cluster->rank(0).Dispatch(0, Lane::kDecode, plan, rows).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_P(ExchangeTest, AnswersADecodeFrameWhileBulkFramesWait) {
  const auto cluster = Make(1, 1, SmallRows());
  RankExchange& rank = cluster->rank(0);
  ShardExchange& shard = cluster->shard(0);
  Work bulk(SmallRows(), {20, 1}, {0}), decode(SmallRows(), {1, 1}, {0}, 2);
  const Ticket bulk_ticket = rank.Dispatch(1, Lane::kBulk, bulk.plan, bulk.rows).value();
  const InboundFrame bulk_frame = ReceiveOne(shard);
  const Ticket decode_ticket = rank.Dispatch(2, Lane::kDecode, decode.plan, decode.rows).value();
  const InboundFrame decode_frame = ReceiveOne(shard);
  EXPECT_EQ(decode_frame.lane, Lane::kDecode);
  Answer(shard, SmallRows(), decode_frame);
  EXPECT_TRUE(rank.Combine(decode_ticket, Far(), absl::MakeSpan(decode.results)).empty());
  Answer(shard, SmallRows(), bulk_frame);
  EXPECT_TRUE(rank.Combine(bulk_ticket, Far(), absl::MakeSpan(bulk.results)).empty());
  decode.ExpectResults(2);
  bulk.ExpectResults(1);
}

TEST_P(ExchangeTest, EndsEveryWaitWhenItIsClosed) {
  const auto cluster = Make(1, 1, SmallRows());
  Work work(SmallRows(), {1, 1}, {0});
  const Ticket ticket = cluster->rank(0).Dispatch(0, Lane::kDecode, work.plan, work.rows).value();
  ReceiveOne(cluster->shard(0));
  std::thread rank_loop([&] {
    ExpectAll(cluster->rank(0).Combine(ticket, Far(), absl::MakeSpan(work.results)), 1,
              EntryState::kLost);
  });
  std::thread shard_loop([&] { EXPECT_FALSE(cluster->shard(0).Receive(Far()).has_value()); });
  cluster->rank(0).Close();
  cluster->shard(0).Close();
  rank_loop.join();
  shard_loop.join();
  EXPECT_FALSE(cluster->rank(0).Dispatch(0, Lane::kDecode, work.plan, work.rows).ok());
  EXPECT_FALSE(cluster->rank(0).AwaitConnected(0, Far()));
}

INSTANTIATE_TEST_SUITE_P(Transports, ExchangeTest,
                         ::testing::Values(
                             [](const ClusterSpec& spec) -> std::unique_ptr<Cluster> {
                               return std::make_unique<LoopbackCluster>(spec);
                             },
                             [](const ClusterSpec& spec) -> std::unique_ptr<Cluster> {
                               return std::make_unique<GrpcCluster>(spec);
                             }),
                         [](const ::testing::TestParamInfo<MakeCluster>& info) {
                           return info.index == 0 ? "Loopback" : "Grpc";
                         });

}  // namespace
}  // namespace orrery
