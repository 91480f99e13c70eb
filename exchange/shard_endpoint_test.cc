// What a ShardEndpoint does with the frames of its connections; whole exchanges are
// exchange_conformance_test.
#include "exchange/shard_endpoint.h"

#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

constexpr size_t kRowBytes = 1000;
const ExchangeOptions kOptions{.numerics_id = "test",
                               .row_bytes = kRowBytes,
                               .result_bytes = 24,
                               .max_queued_bytes = kMaxFrameBytes};

// Thread-safe while frames are sent, as channels are.
class FakeChannel : public Channel {
 public:
  bool Send(std::string frame) override {
    std::lock_guard lock(mutex_);
    sent.push_back(std::move(frame));
    return true;
  }
  void Close(const absl::Status& why) override { closed = why; }

  std::vector<std::string> sent;
  absl::Status closed;

 private:
  std::mutex mutex_;
};

std::string Dispatch(Lane lane, int layer, int num_rows = 1, Ticket ticket = {}) {
  std::vector<DispatchEntry> entries;
  for (int i = 0; i < num_rows; ++i) entries.push_back({.row = i, .expert = 2, .result = i});
  const std::vector<std::byte> rows(num_rows * kRowBytes);
  return EncodeDispatch({.lane = lane,
                         .ticket_slot = ticket.slot,
                         .ticket_generation = ticket.generation,
                         .layer = static_cast<uint32_t>(layer),
                         .row_bytes = kRowBytes,
                         .numerics_hash = NumericsHash(kOptions.numerics_id)},
                        entries, rows.data());
}

std::string Abandon(Lane lane, Ticket ticket) {
  return EncodeAbandon(
      {.lane = lane, .ticket_slot = ticket.slot, .ticket_generation = ticket.generation});
}

class ShardEndpointTest : public ::testing::Test {
 protected:
  std::shared_ptr<ChannelSink> Connect(Lane lane, const std::shared_ptr<FakeChannel>& channel) {
    return endpoint_.Connect(lane, channel).value();
  }
  // What waits now, which should be a single frame, or nothing.
  std::optional<InboundFrame> ReceiveNow() {
    std::optional<InboundGroup> group = endpoint_.Receive(absl::Now());
    if (!group.has_value()) return std::nullopt;
    EXPECT_EQ(group->size(), 1u);
    return group->front();
  }
  void ReplyNotHeld(const InboundFrame& frame) {
    const std::vector<EntryState> states(frame.entries.size(), EntryState::kNotHeld);
    const std::vector<std::byte> results(states.size() * kOptions.result_bytes);
    endpoint_.Reply(frame, {.states = states, .results = results});
  }

  ShardEndpoint endpoint_{kOptions, /*max_streams=*/3};
  const std::vector<std::byte> row_ = std::vector<std::byte>(kRowBytes);
  const std::shared_ptr<FakeChannel> decode_ = std::make_shared<FakeChannel>();
  const std::shared_ptr<FakeChannel> bulk_ = std::make_shared<FakeChannel>();
};

TEST_F(ShardEndpointTest, HandsOutDecodeFramesBeforeBulkFramesThatCameEarlier) {
  const auto bulk = Connect(Lane::kBulk, bulk_), decode = Connect(Lane::kDecode, decode_);
  ASSERT_TRUE(bulk->OnFrame(Dispatch(Lane::kBulk, 1)).ok());
  ASSERT_TRUE(bulk->OnFrame(Dispatch(Lane::kBulk, 2)).ok());
  ASSERT_TRUE(decode->OnFrame(Dispatch(Lane::kDecode, 3)).ok());
  for (int layer : {3, 1, 2}) EXPECT_EQ(ReceiveNow()->layer, layer);
  EXPECT_FALSE(ReceiveNow().has_value());
}

TEST_F(ShardEndpointTest, HoldsNoMoreOfAllRanksTogetherThanItsBound) {
  const std::string frame = Dispatch(Lane::kDecode, 1);
  ExchangeOptions options = kOptions;
  options.max_inbox_bytes = 2 * frame.size();
  ShardEndpoint endpoint(options, /*max_streams=*/3);
  const auto one = endpoint.Connect(Lane::kDecode, decode_).value();
  const auto other = endpoint.Connect(Lane::kDecode, bulk_).value();
  ASSERT_TRUE(one->OnFrame(frame).ok());
  ASSERT_TRUE(other->OnFrame(frame).ok());
  const absl::Status refused = other->OnFrame(frame);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("bytes of all ranks, the limit is"));
  one->OnClosed(absl::OkStatus());  // what nobody waits for makes room
  EXPECT_TRUE(other->OnFrame(frame).ok());
}

// Two ranks, both lanes: whoever asked gets the answer to what it asked.
TEST_F(ShardEndpointTest, GroupsTheFramesOfALayerAndAnswersEachWhereItCameFrom) {
  const auto other_ = std::make_shared<FakeChannel>();
  const auto bulk = Connect(Lane::kBulk, bulk_), decode = Connect(Lane::kDecode, decode_),
             other = Connect(Lane::kDecode, other_);
  ASSERT_TRUE(bulk->OnFrame(Dispatch(Lane::kBulk, 7, 3, {.slot = 1, .generation = 5})).ok());
  ASSERT_TRUE(decode->OnFrame(Dispatch(Lane::kDecode, 7, 1, {.slot = 2, .generation = 5})).ok());
  ASSERT_TRUE(other->OnFrame(Dispatch(Lane::kDecode, 8)).ok());
  ASSERT_TRUE(other->OnFrame(Dispatch(Lane::kDecode, 7, 2, {.slot = 2, .generation = 6})).ok());
  const std::optional<InboundGroup> group = endpoint_.Receive(absl::Now());
  ASSERT_TRUE(group.has_value());
  ASSERT_EQ(group->size(), 3u);
  for (const InboundFrame& frame : *group) {
    EXPECT_EQ(frame.layer, 7);
    ReplyNotHeld(frame);
  }
  const auto answered = [](const FakeChannel& channel) {
    return ParseReply(channel.sent.at(0))->header;
  };
  EXPECT_EQ(answered(*decode_).num_entries, 1u);
  EXPECT_EQ(answered(*other_).num_entries, 2u);
  EXPECT_EQ(answered(*other_).ticket_generation, 6u);
  EXPECT_EQ(answered(*bulk_).num_entries, 3u);
  EXPECT_EQ(ReceiveNow()->layer, 8);
}

TEST_F(ShardEndpointTest, FreesTheRoomOfFramesThatWereGivenUp) {
  const auto sink = Connect(Lane::kDecode, decode_);
  const int num_rows = kMaxFrameBytes / kRowBytes / 2;
  const Ticket ticket{.slot = 3, .generation = 9};
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(sink->OnFrame(Dispatch(Lane::kDecode, i, num_rows, ticket)).ok());
    ASSERT_TRUE(sink->OnFrame(Abandon(Lane::kDecode, ticket)).ok());
  }
  EXPECT_FALSE(ReceiveNow().has_value());
  EXPECT_EQ(endpoint_.counters().abandoned, 10u);
}

TEST_F(ShardEndpointTest, AnAbandonOfWhatIsNotThereDoesNothing) {
  const auto sink = Connect(Lane::kDecode, decode_);
  const Ticket ticket{.slot = 3, .generation = 9};
  ASSERT_TRUE(sink->OnFrame(Dispatch(Lane::kDecode, 1, 1, ticket)).ok());
  ASSERT_TRUE(sink->OnFrame(Abandon(Lane::kDecode, {.slot = 3, .generation = 8})).ok());
  ASSERT_TRUE(sink->OnFrame(Abandon(Lane::kDecode, {.slot = 2, .generation = 9})).ok());
  const std::optional<InboundFrame> frame = ReceiveNow();
  ASSERT_TRUE(frame.has_value());
  ASSERT_TRUE(sink->OnFrame(Abandon(Lane::kDecode, ticket)).ok());  // too late
  ReplyNotHeld(*frame);
  EXPECT_EQ(decode_->sent.size(), 1u);
  EXPECT_EQ(endpoint_.counters().abandoned, 0u);
  sink->OnClosed(absl::UnavailableError("gone"));
  EXPECT_TRUE(sink->OnFrame(Abandon(Lane::kDecode, ticket)).ok());
}

TEST_F(ShardEndpointTest, RefusesFramesBeyondItsBoundUntilOneIsAnswered) {
  const auto sink = Connect(Lane::kDecode, decode_);
  const int num_rows = kMaxFrameBytes / kRowBytes / 2;
  ASSERT_TRUE(sink->OnFrame(Dispatch(Lane::kDecode, 1, num_rows)).ok());
  const absl::Status over = sink->OnFrame(Dispatch(Lane::kDecode, 2, num_rows));
  EXPECT_EQ(over.code(), absl::StatusCode::kResourceExhausted);
  const std::optional<InboundFrame> frame = ReceiveNow();
  EXPECT_FALSE(sink->OnFrame(Dispatch(Lane::kDecode, 3, num_rows)).ok());  // still being worked on
  ReplyNotHeld(*frame);
  EXPECT_TRUE(sink->OnFrame(Dispatch(Lane::kDecode, 4, num_rows)).ok());
}

TEST_F(ShardEndpointTest, ForgetsTheFramesOfAConnectionThatWentAway) {
  const auto sink = Connect(Lane::kDecode, decode_);
  ASSERT_TRUE(sink->OnFrame(Dispatch(Lane::kDecode, 1)).ok());
  ASSERT_TRUE(sink->OnFrame(Dispatch(Lane::kDecode, 2)).ok());
  const std::optional<InboundFrame> received = ReceiveNow();
  sink->OnClosed(absl::UnavailableError("gone"));
  EXPECT_FALSE(ReceiveNow().has_value());
  EXPECT_EQ(endpoint_.counters().orphaned, 1u);
  ReplyNotHeld(*received);
  EXPECT_TRUE(decode_->sent.empty());
  EXPECT_EQ(sink->OnFrame(Dispatch(Lane::kDecode, 3)).code(), absl::StatusCode::kUnavailable);
}

TEST_F(ShardEndpointTest, FailsTheConnectionOfAMalformedFrame) {
  const auto sink = Connect(Lane::kDecode, decode_);
  EXPECT_EQ(sink->OnFrame("rubbish").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(sink->OnFrame(Dispatch(Lane::kBulk, 1)).message()),
              HasSubstr("lane 1 in the channel of lane 0"));
  EXPECT_THAT(std::string(sink->OnFrame(Abandon(Lane::kBulk, {})).message()),
              HasSubstr("lane 1 in the channel of lane 0"));
  EXPECT_FALSE(sink->OnFrame(Abandon(Lane::kDecode, {}) + "x").ok());
}

TEST_F(ShardEndpointTest, RefusesARowOfAnotherSizeAndAReplyThatWouldNotFit) {
  const auto sink = Connect(Lane::kDecode, decode_);
  std::string frame = EncodeDispatch({.row_bytes = 8, .numerics_hash = NumericsHash("test")},
                                     std::vector<DispatchEntry>{{}}, row_.data());
  ASSERT_TRUE(sink->OnFrame(std::move(frame)).ok());
  // One row that wants 30,000 experts: a small dispatch, but 24 bytes * 30,000 of results.
  std::vector<DispatchEntry> many(30000);
  ASSERT_TRUE(
      sink->OnFrame(EncodeDispatch({.row_bytes = kRowBytes, .numerics_hash = NumericsHash("test")},
                                   many, row_.data()))
          .ok());
  EXPECT_FALSE(ReceiveNow().has_value());
  ASSERT_EQ(decode_->sent.size(), 2u);
  for (const std::string& reply : decode_->sent) {
    EXPECT_EQ(ParseReply(reply)->states[0], EntryState::kRefused);
  }
}

// A transport that lets the thread of a frame serve it, and the shard's loop beside it. In many
// rounds, so that the loop waits already in most.
class ServingOnArrivalTest : public ShardEndpointTest {
 protected:
  static constexpr int kNumRounds = 200;

  ~ServingOnArrivalTest() override {
    endpoint_.Close();
    loop_.join();
  }
  void Arrive(int num_frames) {
    for (int i = 0; i < num_frames; ++i) {
      ASSERT_TRUE(sink_->OnFrame(Dispatch(Lane::kDecode, /*layer=*/i)).ok());
    }
    endpoint_.Arrived();
  }
  // Takes one group, as the loop and the thread of a frame do.
  bool Take(absl::Time deadline) {
    const std::optional<InboundGroup> group = endpoint_.Receive(deadline);
    if (!group.has_value()) return false;
    for (const InboundFrame& frame : *group) ReplyNotHeld(frame);
    std::lock_guard lock(mutex_);
    num_taken_ += static_cast<int>(group->size());
    taken_.notify_all();
    return true;
  }
  void AwaitTaken(int num_frames) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(taken_.wait_until(lock, absl::ToChronoTime(kFar),
                                  [&] { return num_taken_ == num_frames; }));
  }

  // A deadline that only a broken endpoint reaches.
  const absl::Time kFar = absl::Now() + absl::Minutes(2);
  const std::shared_ptr<ChannelSink> sink_ = Connect(Lane::kDecode, decode_);
  std::mutex mutex_;
  std::condition_variable taken_;
  int num_taken_ = 0;  // guarded by mutex_
  std::thread loop_{[this] {
    while (Take(kFar)) {
    }
  }};
};

TEST_F(ServingOnArrivalTest, AFrameThatWasNotServedWakesUpTheLoop) {
  endpoint_.SetServe([] { return false; });
  for (int round = 1; round <= kNumRounds; ++round) {
    Arrive(1);
    ASSERT_NO_FATAL_FAILURE(AwaitTaken(round));
  }
}

TEST_F(ServingOnArrivalTest, WhatIsLeftAfterOneServedGroupWakesUpTheLoop) {
  endpoint_.SetServe([this] { return Take(absl::InfinitePast()); });
  for (int round = 1; round <= kNumRounds; ++round) {
    Arrive(2);
    ASSERT_NO_FATAL_FAILURE(AwaitTaken(2 * round));
  }
}

TEST_F(ServingOnArrivalTest, AFrameThatCameBeforeServingEndedIsReceived) {
  for (int round = 1; round <= kNumRounds; ++round) {
    endpoint_.SetServe([] { return true; });
    ASSERT_TRUE(sink_->OnFrame(Dispatch(Lane::kDecode, 1)).ok());
    endpoint_.SetServe(nullptr);
    endpoint_.Arrived();
    ASSERT_NO_FATAL_FAILURE(AwaitTaken(round));
  }
}

TEST_F(ShardEndpointTest, ServingEndsWhenNoCallIsUnderWay) {
  const auto sink = Connect(Lane::kDecode, decode_);
  std::promise<void> begun, may_end;
  endpoint_.SetServe([&] {
    begun.set_value();
    may_end.get_future().wait();
    return true;
  });
  ASSERT_TRUE(sink->OnFrame(Dispatch(Lane::kDecode, 1)).ok());
  const auto transport = std::async(std::launch::async, [&] { endpoint_.Arrived(); });
  begun.get_future().wait();
  const auto ended = std::async(std::launch::async, [&] { endpoint_.SetServe(nullptr); });
  // However long it took: a little is enough to see one that does not wait.
  EXPECT_EQ(ended.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  may_end.set_value();
  ended.wait();
}

TEST_F(ShardEndpointTest, BoundsItsConnectionsAndTakesNoneOnceClosed) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(endpoint_.Connect(Lane::kBulk, bulk_).ok());
  EXPECT_EQ(endpoint_.Connect(Lane::kBulk, bulk_).status().code(),
            absl::StatusCode::kResourceExhausted);
  endpoint_.Close();
  EXPECT_EQ(bulk_->closed.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(endpoint_.Connect(Lane::kBulk, bulk_).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace orrery
