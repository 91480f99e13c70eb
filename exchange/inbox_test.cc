#include "exchange/inbox.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr size_t kResultBytes = 1024;
constexpr int kEntriesPerGroup = kMaxGroupBytes / kResultBytes;
constexpr int kEntriesPerMixedGroup = kMaxMixedGroupBytes / kResultBytes;

struct Sent {
  std::string name;  // kept as the frame's bytes
  Lane lane = Lane::kDecode;
  int layer = 0;
  int num_entries = 1;
  uint64_t source = 1;
  Ticket ticket = {};
};

class InboxTest : public ::testing::Test {
 protected:
  void Push(const Sent& sent) {
    auto inbound = std::make_unique<Inbound>();
    inbound->source = sent.source;
    inbound->header.ticket_slot = sent.ticket.slot;
    inbound->header.ticket_generation = sent.ticket.generation;
    inbound->frame.layer = sent.layer;
    inbound->frame.lane = sent.lane;
    inbound->frame.entries.resize(sent.num_entries);
    inbound->bytes = sent.name;
    inbox_.Push(std::move(inbound));
  }
  static std::vector<std::string> Names(const Inbox::Frames& frames) {
    std::vector<std::string> names;
    for (const auto& inbound : frames) names.push_back(inbound->bytes);
    return names;
  }
  std::vector<std::string> Take() { return Names(inbox_.TakeGroup()); }

  Inbox inbox_{kResultBytes};
};

TEST_F(InboxTest, GivesNothingWhenNothingWaits) {
  EXPECT_TRUE(inbox_.empty());
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_THAT(Names(inbox_.DropSource(1)), IsEmpty());
}

TEST_F(InboxTest, TakesTheFramesOfTheOldestOnesLayerAndLeavesTheOthersInOrder) {
  Push({.name = "a", .layer = 3, .source = 1});
  Push({.name = "b", .layer = 5, .source = 2});
  Push({.name = "c", .layer = 3, .source = 2});
  Push({.name = "d", .layer = 5, .source = 1});
  Push({.name = "e", .layer = 3, .source = 1});
  EXPECT_THAT(Take(), ElementsAre("a", "c", "e"));
  EXPECT_THAT(Take(), ElementsAre("b", "d"));
  EXPECT_TRUE(inbox_.empty());
}

TEST_F(InboxTest, DecodeLeadsAndBulkOfItsLayerComesAlongWhileThereIsRoom) {
  const int half = kEntriesPerMixedGroup / 2;
  Push({.name = "other layer", .lane = Lane::kBulk, .layer = 2});
  Push({.name = "guest", .lane = Lane::kBulk, .layer = 1, .num_entries = half});
  Push({.name = "too many", .lane = Lane::kBulk, .layer = 1, .num_entries = half});
  Push({.name = "must not pass", .lane = Lane::kBulk, .layer = 1});
  Push({.name = "decode", .layer = 1});
  Push({.name = "decode too", .layer = 1});
  EXPECT_THAT(Take(), ElementsAre("decode", "decode too", "guest"));
  EXPECT_THAT(Take(), ElementsAre("other layer"));
  EXPECT_THAT(Take(), ElementsAre("too many", "must not pass"));
}

TEST_F(InboxTest, DecodeFramesThatAlreadyFillAFrameTakeNoGuests) {
  Push({.name = "guest", .lane = Lane::kBulk});
  Push({.name = "decode", .num_entries = kEntriesPerMixedGroup});
  EXPECT_THAT(Take(), ElementsAre("decode"));
  EXPECT_THAT(Take(), ElementsAre("guest"));
}

TEST_F(InboxTest, AGroupHoldsNoMoreThanItsBoundAndOldFramesAreNotPassed) {
  for (const Lane lane : {Lane::kDecode, Lane::kBulk}) {
    Push({.name = "a", .lane = lane, .num_entries = 1});
    Push({.name = "b", .lane = lane, .num_entries = kEntriesPerGroup - 1});
    Push({.name = "c", .lane = lane, .num_entries = kEntriesPerGroup});
    Push({.name = "d", .lane = lane, .num_entries = 1});
    EXPECT_THAT(Take(), ElementsAre("a", "b"));
    EXPECT_THAT(Take(), ElementsAre("c"));
    EXPECT_THAT(Take(), ElementsAre("d"));
  }
}

// A bulk frame among decode frames that never end, each of another layer.
TEST_F(InboxTest, BulkLeadsAfterEnoughDecodeGroupsThatItWaitedFor) {
  for (int layer = 0; layer < 3; ++layer) {
    Push({.name = "decode", .layer = layer});
    EXPECT_THAT(Take(), ElementsAre("decode"));  // none of these count: no bulk frame waits
  }
  Push({.name = "bulk", .lane = Lane::kBulk, .layer = 1000});
  Push({.name = "next bulk", .lane = Lane::kBulk, .layer = 1001});
  int layer = 0;
  for (const char* bulk : {"bulk", "next bulk"}) {
    for (int i = 0; i < kMaxDecodeGroups; ++i) {
      Push({.name = "decode", .layer = layer++});
      Push({.name = "decode", .layer = layer++});
      EXPECT_THAT(Take(), ElementsAre("decode")) << i;
    }
    EXPECT_THAT(Take(), ElementsAre(bulk));
  }
}

TEST_F(InboxTest, ABulkFramesTurnTakesTheDecodeFramesOfItsLayerAlong) {
  Push({.name = "bulk", .lane = Lane::kBulk, .layer = 7, .num_entries = kEntriesPerMixedGroup});
  for (int i = 0; i < kMaxDecodeGroups; ++i) {
    Push({.name = "decode", .layer = 8 + i});
    Take();
  }
  Push({.name = "other", .layer = 1});
  Push({.name = "decode", .layer = 7});
  EXPECT_THAT(Take(), ElementsAre("bulk", "decode"));
  EXPECT_THAT(Take(), ElementsAre("other"));
}

// One rank pours in frames of many layers; what another sent waits for what was there before.
TEST_F(InboxTest, AFloodOfOneRankDoesNotDelayAnotherBeyondWhatCameBeforeIt) {
  constexpr int kBefore = 5;
  for (int i = 0; i < kBefore; ++i) Push({.name = "flood", .layer = i, .source = 1});
  Push({.name = "other", .layer = 1000, .source = 2});
  for (int i = 0; i < kBefore; ++i) {
    for (int j = 0; j < 10; ++j) Push({.name = "flood", .layer = i, .source = 1});
    EXPECT_THAT(Take(), ::testing::Each("flood"));
  }
  EXPECT_THAT(Take(), ElementsAre("other"));
}

TEST_F(InboxTest, DropsTheFramesOfATicketOfOneConnectionOnly) {
  const Ticket ticket{.slot = 1, .generation = 7};
  Push({.name = "a", .source = 1, .ticket = ticket});
  Push({.name = "other generation", .source = 1, .ticket = {.slot = 1, .generation = 8}});
  Push({.name = "other slot", .source = 1, .ticket = {.slot = 2, .generation = 7}});
  Push({.name = "other connection", .source = 2, .ticket = ticket});
  Push({.name = "b", .layer = 4, .source = 1, .ticket = ticket});
  EXPECT_THAT(Names(inbox_.DropTicket(1, ticket)), ElementsAre("a", "b"));
  EXPECT_THAT(Names(inbox_.DropTicket(1, ticket)), IsEmpty());
  EXPECT_THAT(Take(), ElementsAre("other generation", "other slot", "other connection"));
}

TEST_F(InboxTest, DropsAllFramesOfAConnectionOrEverything) {
  Push({.name = "a", .source = 1});
  Push({.name = "b", .source = 2});
  Push({.name = "c", .source = 1});
  EXPECT_THAT(Names(inbox_.DropSource(1)), ElementsAre("a", "c"));
  EXPECT_FALSE(inbox_.empty());
  inbox_.Clear();
  EXPECT_TRUE(inbox_.empty());
}

}  // namespace
}  // namespace orrery
