#include "exchange/ticket_table.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

using FrameState = TicketTable::FrameState;
using Verdict = TicketTable::Verdict;

// Two frames to peer 0, one to peer 1, on the decode lane.
const std::vector<TicketTable::Frame> kFrames = {
    {.peer = 0, .num_entries = 3}, {.peer = 0, .num_entries = 2}, {.peer = 1, .num_entries = 1}};

TicketTable::ReplyAddress Reply(Ticket ticket, uint32_t frame_index) {
  return {.ticket = ticket,
          .frame_index = frame_index,
          .peer = kFrames[frame_index].peer,
          .num_entries = kFrames[frame_index].num_entries};
}

TEST(TicketTable, SettlesWhenEveryFrameIsAnswered) {
  TicketTable table(1);
  const Ticket ticket = table.Open(kFrames).value();
  EXPECT_EQ(table.AcceptReply(Reply(ticket, 2), "c"), Verdict::kAccepted);
  EXPECT_EQ(table.AcceptReply(Reply(ticket, 0), "a"), Verdict::kAccepted);
  EXPECT_FALSE(table.Settled(ticket));
  EXPECT_EQ(table.AcceptReply(Reply(ticket, 1), "b"), Verdict::kAccepted);
  EXPECT_TRUE(table.Settled(ticket));
  const auto outcomes = table.Close(ticket);
  ASSERT_EQ(outcomes.size(), 3u);
  EXPECT_EQ(outcomes[1].state, FrameState::kAnswered);
  EXPECT_EQ(outcomes[1].reply, "b");
  EXPECT_FALSE(table.IsOpen(ticket));
}

TEST(TicketTable, NamesTheFramesThatWait) {
  TicketTable table(1);
  const Ticket ticket =
      table.Open({{.peer = 4, .num_entries = 1}, {.peer = 5, .num_entries = 1}}).value();
  table.AcceptReply({.ticket = ticket, .frame_index = 0, .peer = 4, .num_entries = 1}, "reply");
  ASSERT_EQ(table.Waiting(ticket).size(), 1u);
  EXPECT_EQ(table.Waiting(ticket)[0].peer, 5);
}

TEST(TicketTable, IsSettledAtOnceWithoutFrames) {
  TicketTable table(1);
  const Ticket ticket = table.Open({}).value();
  EXPECT_TRUE(table.Settled(ticket));
  EXPECT_TRUE(table.Close(ticket).empty());
}

TEST(TicketTable, RefusesMoreThanMaxTicketsAndTakesAnotherOnceOneIsClosed) {
  TicketTable table(2);
  const Ticket first = table.Open(kFrames).value();
  ASSERT_TRUE(table.Open(kFrames).ok());
  const auto third = table.Open(kFrames);
  EXPECT_EQ(third.status().code(), absl::StatusCode::kResourceExhausted);
  table.Close(first);
  const Ticket again = table.Open(kFrames).value();
  EXPECT_EQ(again.slot, first.slot);
  EXPECT_NE(again.generation, first.generation);
  EXPECT_EQ(table.num_open(), 2);
}

// The slot is in use again, by a ticket with the same shape: only the generation tells them apart.
TEST(TicketTable, RecognisesALateReplyAfterTheSlotWasReused) {
  TicketTable table(1);
  const Ticket old = table.Open(kFrames).value();
  EXPECT_EQ(table.Close(old)[0].state, FrameState::kWaiting);
  EXPECT_EQ(table.AcceptReply(Reply(old, 0), "late"), Verdict::kLate);
  const Ticket now = table.Open(kFrames).value();
  EXPECT_EQ(table.AcceptReply(Reply(old, 0), "late"), Verdict::kLate);
  EXPECT_EQ(table.AcceptReply(Reply(now, 0), "good"), Verdict::kAccepted);
  EXPECT_EQ(table.Close(now)[0].reply, "good");
  EXPECT_EQ(table.counters().late, 2u);
}

TEST(TicketTable, KeepsTheFirstOfTwoRepliesToOneFrame) {
  TicketTable table(1);
  const Ticket ticket = table.Open(kFrames).value();
  EXPECT_EQ(table.AcceptReply(Reply(ticket, 0), "first"), Verdict::kAccepted);
  EXPECT_EQ(table.AcceptReply(Reply(ticket, 0), "second"), Verdict::kDuplicate);
  EXPECT_EQ(table.counters().duplicate, 1u);
  EXPECT_EQ(table.Close(ticket)[0].reply, "first");
}

TEST(TicketTable, SettlesAFrameAsRefusedWhenItsReplyHasTheWrongNumberOfEntries) {
  TicketTable table(1);
  const Ticket ticket = table.Open(kFrames).value();
  TicketTable::ReplyAddress wrong = Reply(ticket, 0);
  wrong.num_entries = 4;
  EXPECT_EQ(table.AcceptReply(wrong, "x"), Verdict::kWrong);
  const auto outcomes = table.Close(ticket);
  EXPECT_EQ(outcomes[0].state, FrameState::kRefused);
  EXPECT_EQ(outcomes[1].state, FrameState::kWaiting);
  EXPECT_EQ(table.counters().malformed, 1u);
}

TEST(TicketTable, IgnoresRepliesToWhatWasNeverAsked) {
  TicketTable table(1);
  EXPECT_EQ(table.AcceptReply(Reply({.slot = 0, .generation = 0}, 0), "x"), Verdict::kWrong);
  const Ticket ticket = table.Open(kFrames).value();
  EXPECT_EQ(table.AcceptReply(Reply({.slot = 9, .generation = 1}, 0), "x"), Verdict::kWrong);
  const Ticket future{.slot = ticket.slot, .generation = ticket.generation + 1};
  EXPECT_EQ(table.AcceptReply(Reply(future, 0), "x"), Verdict::kWrong);
  TicketTable::ReplyAddress address = Reply(ticket, 0);
  address.peer = 1;
  EXPECT_EQ(table.AcceptReply(address, "x"), Verdict::kWrong);
  address = Reply(ticket, 0);
  address.lane = Lane::kBulk;
  EXPECT_EQ(table.AcceptReply(address, "x"), Verdict::kWrong);
  address = Reply(ticket, 0);
  address.frame_index = 3;
  EXPECT_EQ(table.AcceptReply(address, "x"), Verdict::kWrong);
  EXPECT_EQ(table.counters().malformed, 6u);
  EXPECT_EQ(table.Close(ticket)[0].state, FrameState::kWaiting);
}

TEST(TicketTable, LosesOnlyWhatWasSentThroughTheLostChannel) {
  TicketTable table(2);
  const Ticket decode = table.Open(kFrames).value();
  const Ticket bulk = table.Open({{.peer = 0, .lane = Lane::kBulk, .num_entries = 1}}).value();
  table.AcceptReply(Reply(decode, 0), "a");
  table.PeerLost(0, Lane::kDecode);
  EXPECT_EQ(table.AcceptReply(Reply(decode, 1), "too late"), Verdict::kDuplicate);
  EXPECT_FALSE(table.Settled(decode));  // peer 1 may still answer
  table.FrameLost(decode, 2);
  EXPECT_TRUE(table.Settled(decode));
  EXPECT_FALSE(table.Settled(bulk));
  const auto outcomes = table.Close(decode);
  EXPECT_EQ(outcomes[0].state, FrameState::kAnswered);
  EXPECT_EQ(outcomes[1].state, FrameState::kLost);
  EXPECT_EQ(outcomes[2].state, FrameState::kLost);
  table.AllLost();
  EXPECT_TRUE(table.Settled(bulk));
}

}  // namespace
}  // namespace orrery
