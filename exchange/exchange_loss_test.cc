// What exchange.h promises when peers vanish, stay silent or answer too late, for every transport.
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "exchange/conformance.h"

namespace orrery {
namespace {

class ExchangeLossTest : public ExchangeTest {};

// The ticket was given up at its deadline and its buffer used again by the next one, in the same
// slot. The old answer comes first, then the new one; they travel in order, so when the new one is
// there the old one has been dealt with.
TEST_P(ExchangeLossTest, ThrowsALateReplyAwayAfterItsBufferWasReused) {
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

TEST_P(ExchangeLossTest, LosesWhatAKilledPeerWasAskedAndKeepsTheRest) {
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

TEST_P(ExchangeLossTest, ReachesAPeerAgainAfterItCameBack) {
  const auto cluster = Make(1, 1, SmallRows());
  Work work(SmallRows(), {2, 1}, {0});
  const Ticket ticket = cluster->rank(0).Dispatch(2, Lane::kDecode, work.plan, work.rows).value();
  EXPECT_EQ(cluster->rank(0).num_reconnects(0), 0);
  cluster->KillShard(0);
  ExpectAll(cluster->rank(0).Combine(ticket, Far(), absl::MakeSpan(work.results)), 2,
            EntryState::kLost);
  if (!cluster->ReviveShard(0)) GTEST_SKIP() << "somebody else took the port";
  ASSERT_TRUE(cluster->rank(0).AwaitConnected(0, Far()));
  EXPECT_GE(cluster->rank(0).num_reconnects(0), kNumLanes);
  ServingShard serving(cluster->shard(0), SmallRows());
  ExpectDone(cluster->rank(0), work, 3);
}

TEST_P(ExchangeLossTest, LeavesEntriesPendingWhenThePeerIsSilent) {
  const auto cluster = Make(1, 1, SmallRows());
  Work work(SmallRows(), {3, 1}, {0, 0});
  const Ticket ticket = cluster->rank(0).Dispatch(0, Lane::kDecode, work.plan, work.rows).value();
  ExpectAll(cluster->rank(0).Combine(ticket, absl::Now() + absl::Milliseconds(20),
                                     absl::MakeSpan(work.results)),
            3, EntryState::kPending);
  work.ExpectResults(0, [](int) { return false; });
}

TEST_P(ExchangeLossTest, EndsEveryWaitWhenItIsClosed) {
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

INSTANTIATE_EXCHANGE_TEST(ExchangeLossTest);

}  // namespace
}  // namespace orrery
