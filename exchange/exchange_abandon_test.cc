// What exchange.h promises of work that a rank gives up, for every transport.
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "exchange/conformance.h"

namespace orrery {
namespace {

class ExchangeAbandonTest : public ExchangeTest {
 protected:
  // Until so many frames have left the shard's inbox because their rank gave them up. Nothing else
  // tells a test that an abandon has arrived.
  static void AwaitAbandoned(const ShardExchange& shard, uint64_t num_frames) {
    const absl::Time deadline = Far();
    while (shard.counters().abandoned < num_frames && absl::Now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(shard.counters().abandoned, num_frames);
  }
};

TEST_P(ExchangeAbandonTest, AwaitsATicketInSlicesAndLeavesItOpen) {
  const auto cluster = Make(1, 1, SmallRows());
  RankExchange& rank = cluster->rank(0);
  Work work(SmallRows(), {3, 2}, {0, 0});
  const Ticket ticket = Dispatch(rank, work, 4);
  EXPECT_FALSE(rank.Await(ticket, absl::Now()));
  const InboundFrame frame = ReceiveOne(cluster->shard(0));
  EXPECT_FALSE(rank.Await(ticket, absl::Now() + absl::Milliseconds(5)));
  Answer(cluster->shard(0), SmallRows(), frame);
  EXPECT_TRUE(rank.Await(ticket, Far()));
  EXPECT_TRUE(rank.Await(ticket, absl::Now()));
  ExpectDone(rank, ticket, work, 4);
}

// As a rank does that asks several peers, or two for the same.
TEST_P(ExchangeAbandonTest, AwaitsAsManyOfSeveralTicketsAsItIsTold) {
  const auto cluster = Make(1, 2, SmallRows());
  RankExchange& rank = cluster->rank(0);
  Work first(SmallRows(), {1, 1}, {0}), second(SmallRows(), {1, 1}, {1});
  const std::vector<Ticket> tickets = {Dispatch(rank, first, 4), Dispatch(rank, second, 4)};
  EXPECT_FALSE(rank.Await(tickets, 1, absl::Now()));
  const InboundFrame slow = ReceiveOne(cluster->shard(0));
  Answer(cluster->shard(1), SmallRows(), ReceiveOne(cluster->shard(1)));
  EXPECT_TRUE(rank.Await(tickets, 1, Far()));
  EXPECT_FALSE(rank.Await(tickets, 2, absl::Now()));
  EXPECT_FALSE(rank.AnsweredAfter(tickets[0]).has_value());
  EXPECT_TRUE(rank.AnsweredAfter(tickets[1]).has_value());
  Answer(cluster->shard(0), SmallRows(), slow);
  EXPECT_TRUE(rank.Await(tickets, 2, Far()));
  EXPECT_GE(*rank.AnsweredAfter(tickets[0]), *rank.AnsweredAfter(tickets[1]));
  ExpectDone(rank, tickets[0], first, 4);
  ExpectDone(rank, tickets[1], second, 4);
}

TEST_P(ExchangeAbandonTest, AwaitsATicketWithoutFramesNotAtAll) {
  const auto cluster = Make(1, 1, SmallRows());
  RankExchange& rank = cluster->rank(0);
  const Ticket ticket = rank.Dispatch(0, Lane::kDecode, {}, {}).value();
  EXPECT_TRUE(rank.Await(ticket, absl::InfinitePast()));
  rank.Abandon(ticket);
}

// The next ticket has the same slot, and of both only its frame is ever seen by the shard's loop.
TEST_P(ExchangeAbandonTest, AFrameThatWaitedNeverReachesTheShardsLoop) {
  ExchangeOptions options = SmallRows();
  options.max_tickets = 1;
  const auto cluster = Make(1, 1, options);
  RankExchange& rank = cluster->rank(0);
  for (const Lane lane : {Lane::kDecode, Lane::kBulk}) {
    const uint64_t num_abandoned = cluster->shard(0).counters().abandoned;
    Work given_up(options, {3, 2}, {0, 0}, 1), work(options, {3, 2}, {0, 0}, 2);
    rank.Abandon(Dispatch(rank, given_up, 1, lane));
    const Ticket ticket = Dispatch(rank, work, 2, lane);
    AwaitAbandoned(cluster->shard(0), num_abandoned + 1);
    const InboundFrame frame = ReceiveOne(cluster->shard(0));
    EXPECT_EQ(frame.layer, 2);
    Answer(cluster->shard(0), options, frame);
    ExpectDone(rank, ticket, work, 2);
  }
  EXPECT_FALSE(cluster->shard(0).Receive(absl::Now()).has_value());
  EXPECT_EQ(rank.counters().late, 0u);
}

// Slots and generations are numbered by each rank for itself, so both first tickets look alike.
TEST_P(ExchangeAbandonTest, TakesBackNothingOfOtherRanksAndOtherTickets) {
  const auto cluster = Make(2, 1, SmallRows());
  Work given_up(SmallRows(), {2, 1}, {0}, 1), kept(SmallRows(), {2, 1}, {0}, 2),
      of_other(SmallRows(), {2, 1}, {0}, 3);
  const Ticket given_up_ticket = Dispatch(cluster->rank(0), given_up, 1);
  const Ticket kept_ticket = Dispatch(cluster->rank(0), kept, 2);
  const Ticket others_ticket = Dispatch(cluster->rank(1), of_other, 1);
  EXPECT_EQ(given_up_ticket.slot, others_ticket.slot);
  EXPECT_EQ(given_up_ticket.generation, others_ticket.generation);
  cluster->rank(0).Abandon(given_up_ticket);
  AwaitAbandoned(cluster->shard(0), 1);
  ServingShard serving(cluster->shard(0), SmallRows());
  ExpectDone(cluster->rank(0), kept_ticket, kept, 2);
  ExpectDone(cluster->rank(1), others_ticket, of_other, 1);
  EXPECT_EQ(serving.Stop(), 2);
}

// Replies travel in order, so when the second is there the first has been dealt with.
TEST_P(ExchangeAbandonTest, AFrameThatIsBeingComputedEndsAsALateReply) {
  const auto cluster = Make(1, 1, SmallRows());
  RankExchange& rank = cluster->rank(0);
  Work given_up(SmallRows(), {3, 2}, {0, 0}, 1), work(SmallRows(), {3, 2}, {0, 0}, 2);
  const Ticket given_up_ticket = Dispatch(rank, given_up, 1);
  const InboundFrame given_up_frame = ReceiveOne(cluster->shard(0));
  rank.Abandon(given_up_ticket);
  const Ticket ticket = Dispatch(rank, work, 1);
  const InboundFrame frame = ReceiveOne(cluster->shard(0));
  Answer(cluster->shard(0), SmallRows(), given_up_frame);
  Answer(cluster->shard(0), SmallRows(), frame);
  ExpectDone(rank, ticket, work, 1);
  EXPECT_EQ(rank.counters().late, 1u);
  EXPECT_EQ(cluster->shard(0).counters().abandoned, 0u);
}

// 40 rows of 50,000 bytes: several frames, of which the shard has begun one group.
TEST_P(ExchangeAbandonTest, TakesBackAllFramesOfASplitDispatchFromAllShards) {
  ExchangeOptions options = SmallRows();
  options.row_bytes = 50'000;
  const auto cluster = Make(1, 2, options);
  Work work(options, {40, 2}, {0, 1});
  const Ticket ticket = Dispatch(cluster->rank(0), work, 3, Lane::kBulk);
  const size_t num_begun = ReceiveGroup(cluster->shard(0)).size();
  cluster->rank(0).Abandon(ticket);
  AwaitAbandoned(cluster->shard(0), 4 - num_begun);
  AwaitAbandoned(cluster->shard(1), 4);
  for (int shard : {0, 1}) EXPECT_FALSE(cluster->shard(shard).Receive(absl::Now()).has_value());
}

TEST_P(ExchangeAbandonTest, CombinePastItsDeadlineTakesBackWhatIsStillPending) {
  const auto cluster = Make(1, 2, SmallRows());
  ServingShard serving(cluster->shard(1), SmallRows());
  RankExchange& rank = cluster->rank(0);
  Work work(SmallRows(), {4, 2}, {0, 1}), only_second(SmallRows(), {1, 1}, {1});
  const Ticket ticket = Dispatch(rank, work, 5);
  // Shard 1 answers in order, so it has answered the first ticket as well.
  ExpectDone(rank, only_second, 6);
  ExpectAll(rank.Combine(ticket, absl::Now(), absl::MakeSpan(work.results)), 4,
            EntryState::kPending);
  work.ExpectResults(5, [](int expert) { return expert == 1; });
  AwaitAbandoned(cluster->shard(0), 1);
  EXPECT_FALSE(cluster->shard(0).Receive(absl::Now()).has_value());
  EXPECT_EQ(cluster->shard(1).counters().abandoned, 0u);
}

TEST_P(ExchangeAbandonTest, IsHarmlessWhenThePeerIsLost) {
  const auto cluster = Make(1, 1, SmallRows());
  RankExchange& rank = cluster->rank(0);
  Work work(SmallRows(), {2, 1}, {0});
  const Ticket noticed = Dispatch(rank, work, 1);
  const Ticket unnoticed = Dispatch(rank, work, 2);
  cluster->KillShard(0);
  rank.Abandon(unnoticed);
  EXPECT_TRUE(rank.Await(noticed, Far()));  // its frame is lost
  rank.Abandon(noticed);
  ExpectAll(rank.Combine(Dispatch(rank, work, 3), Far(), absl::MakeSpan(work.results)), 2,
            EntryState::kLost);
  const Ticket of_closed = Dispatch(rank, work, 4);
  rank.Close();
  EXPECT_TRUE(rank.Await(of_closed, Far()));
  rank.Abandon(of_closed);
}

INSTANTIATE_EXCHANGE_TEST(ExchangeAbandonTest);

}  // namespace
}  // namespace orrery
