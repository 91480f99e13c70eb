// What exchange.h promises of rows, states and limits, for every transport. What it promises when
// peers go away is exchange_loss_test, when work is given up exchange_abandon_test.
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "exchange/conformance.h"

namespace orrery {
namespace {

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
  constexpr uint32_t kEtaMs = 1250;
  ServingShard first(cluster->shard(0), SmallRows(), state_of, kEtaMs);
  ServingShard second(cluster->shard(1), SmallRows(), state_of, kEtaMs);
  Work work(SmallRows(), {6, 4}, {0, 0, 1, 1});
  const Ticket ticket = cluster->rank(0).Dispatch(5, Lane::kDecode, work.plan, work.rows).value();
  const CombineReport report =
      cluster->rank(0).Combine(ticket, Far(), absl::MakeSpan(work.results));
  ASSERT_EQ(report.size(), 12u);
  for (const EntryOutcome& outcome : report) {
    EXPECT_EQ(outcome.state,
              outcome.entry.expert == 1 ? EntryState::kNotHeld : EntryState::kLoading);
    EXPECT_EQ(outcome.peer, work.holders[outcome.entry.expert]);
    EXPECT_EQ(outcome.eta_ms, kEtaMs);
  }
  work.ExpectResults(5, [](int expert) { return expert == 0 || expert == 3; });
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
  const std::vector<std::byte> rows(2 * SmallRows().row_bytes);
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

TEST_P(ExchangeTest, AShardAwaitsFramesWithoutTakingThem) {
  const auto cluster = Make(1, 1, SmallRows());
  ShardExchange& shard = cluster->shard(0);
  EXPECT_FALSE(shard.Await(absl::Now()));
  Work work(SmallRows(), {2, 1}, {0});
  const Ticket ticket = Dispatch(cluster->rank(0), work, 3);
  EXPECT_TRUE(shard.Await(Far()));
  EXPECT_TRUE(shard.Await(absl::InfinitePast()));
  Answer(shard, SmallRows(), ReceiveOne(shard));
  ExpectDone(cluster->rank(0), ticket, work, 3);
  EXPECT_FALSE(shard.Await(absl::Now()));
  cluster->rank(0).Abandon(Dispatch(cluster->rank(0), work, 4));
  shard.Close();
  EXPECT_FALSE(shard.Await(Far()));
}

INSTANTIATE_EXCHANGE_TEST(ExchangeTest);

}  // namespace
}  // namespace orrery
