// An edge over a channel and a carrier in the test's hands: the test is the other side.

#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "exchange/edge/edge_layer.h"
#include "exchange/edge/message.h"
#include "exchange/frame.h"
#include "exchange/wait.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

absl::Time Far() { return absl::Now() + absl::Minutes(1); }

// What the edge under test says and moves, and what the other side has for it. Threads: safe.
class OtherSide {
 public:
  void Say(std::string message) {
    std::lock_guard lock(mutex_);
    const MessageView view = ParseMessage(std::string_view(message)).value();
    said_.push_back(view.header);
    changed_.notify_all();
  }
  void TakeWhole(std::string frame) {
    std::lock_guard lock(mutex_);
    whole_.push_back(std::move(frame));
  }
  // The first message of this kind; nothing if none comes.
  std::optional<MessageHeader> Await(MessageKind kind) {
    std::unique_lock lock(mutex_);
    std::optional<MessageHeader> found;
    WaitUntil(changed_, lock, Far(), [&] {
      for (const MessageHeader& header : said_) {
        if (header.kind == kind) found = header;
      }
      return found.has_value();
    });
    return found;
  }
  size_t num_said() {
    std::lock_guard lock(mutex_);
    return said_.size();
  }
  std::vector<std::string> whole() {
    std::lock_guard lock(mutex_);
    return whole_;
  }
  void SetRows(std::string rows) {
    std::lock_guard lock(mutex_);
    rows_ = std::move(rows);
  }
  std::string rows() {
    std::lock_guard lock(mutex_);
    return rows_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::vector<MessageHeader> said_;
  std::vector<std::string> whole_;
  std::string rows_ = "orrery";  // the greeting
};

class FakeBelow : public Channel {
 public:
  FakeBelow(std::shared_ptr<OtherSide> other, std::string layer)
      : other_(std::move(other)), layer_(std::move(layer)) {}
  bool Send(std::string frame) override {
    if (IsMessage(std::string_view(frame))) {
      other_->Say(std::move(frame));
    } else {
      other_->TakeWhole(std::move(frame));
    }
    return true;
  }
  void Close(const absl::Status&) override {}
  std::string peer_layer() const override { return layer_; }
  std::string_view carrier() const override { return "below"; }

 private:
  const std::shared_ptr<OtherSide> other_;
  const std::string layer_;
};

// Everything is there at once.
class FakeMover : public Mover {
 public:
  explicit FakeMover(std::shared_ptr<OtherSide> other) : other_(std::move(other)) {}
  absl::Status Meet(std::string_view) override { return absl::OkStatus(); }
  int num_slots() const override { return kSlotsPerPipe; }
  std::byte* host(int slot) const override { return slots_[slot].data(); }
  absl::StatusOr<bool> Ready() override { return true; }
  absl::Status Start(int, size_t) override { return absl::OkStatus(); }
  absl::Status Finish(int slot, size_t num_bytes) override {
    std::memcpy(slots_[slot].data(), other_->rows().data(), num_bytes);
    return absl::OkStatus();
  }
  absl::StatusOr<bool> IsOver(int) override { return true; }

 private:
  const std::shared_ptr<OtherSide> other_;
  mutable std::vector<std::vector<std::byte>> slots_ =
      std::vector<std::vector<std::byte>>(kSlotsPerPipe, std::vector<std::byte>(4096));
};

class FakeCarrier : public Carrier {
 public:
  explicit FakeCarrier(std::shared_ptr<OtherSide> other) : other_(std::move(other)) {}
  std::string_view name() const override { return "fake"; }
  std::string terms() const override { return "fake 2"; }
  bool is_one_sided() const override { return true; }
  absl::Status Make(EdgeRole, Half& half) override {
    half.out = std::make_unique<Pipe>(Direction::kSend, std::make_unique<FakeMover>(other_), true);
    half.in =
        std::make_unique<Pipe>(Direction::kReceive, std::make_unique<FakeMover>(other_), true);
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<OtherSide> other_;
};

class EdgeTest : public testing::Test, public ChannelSink {
 protected:
  void MakeEdge(const std::string& peer_layer,
                const EdgeOptions& options = {.min_row_bytes = 1,
                                              .operation_timeout = absl::Minutes(1)}) {
    layer_ = MakeEdgeLayer(std::make_unique<FakeCarrier>(other_), options);
    edge_ = layer_->OverChannels([&](int, Lane, ChannelSink* sink) {
      up_ = sink;
      return std::make_unique<FakeBelow>(other_, peer_layer);
    })(0, Lane::kDecode, this);
  }
  void BringUp() {
    MakeEdge("fake 2");
    FormWithShard();
  }
  // The test's part is the shard's, here and below.
  void AcceptInvitation() {
    up_->OnOpen();
    const auto invite = other_->Await(MessageKind::kInvite);
    ASSERT_TRUE(invite.has_value());
    attempt_ = invite->attempt;
    ASSERT_EQ(Tell({.kind = MessageKind::kAccept}), absl::StatusCode::kOk);
    ASSERT_TRUE(other_->Await(MessageKind::kGreeting).has_value());
  }
  void FormWithShard() {
    ASSERT_NO_FATAL_FAILURE(AcceptInvitation());
    ASSERT_EQ(Tell({.kind = MessageKind::kGreeting}), absl::StatusCode::kOk);
    ASSERT_TRUE(other_->Await(MessageKind::kUp).has_value());
    ASSERT_EQ(Tell({.kind = MessageKind::kUp, .num_freed = 1}), absl::StatusCode::kOk);
    ASSERT_TRUE(Await([this] { return edge_->carrier() == "fake"; }));
  }

  void OnOpen() override { ++num_open_; }
  absl::Status OnFrame(std::string frame) override {
    std::lock_guard lock(mutex_);  // the test's thread, or the edge's
    frames_.push_back(std::move(frame));
    return absl::OkStatus();
  }
  void OnClosed(const absl::Status&) override { ++num_closed_; }

  std::vector<std::string> frames() {
    std::lock_guard lock(mutex_);
    return frames_;
  }
  absl::StatusCode Tell(MessageHeader header, const std::string& body = "") {
    if (header.attempt == 0) header.attempt = attempt_;
    return up_->OnFrame(EncodeMessage(header, std::string_view(body))).code();
  }
  static bool Await(const std::function<bool()>& condition) {
    const absl::Time deadline = Far();
    while (!condition() && absl::Now() < deadline) std::this_thread::yield();
    return condition();
  }
  static std::string Frame() {
    const std::vector<std::byte> row(16, std::byte{7});
    const std::vector<DispatchEntry> entries = {{.row = 0, .expert = 1, .result = 0}};
    return EncodeDispatch({.row_bytes = 16}, entries, row.data());
  }

  const std::shared_ptr<OtherSide> other_ = std::make_shared<OtherSide>();
  ChannelSink* up_ = nullptr;  // where the channel below reports to
  uint32_t attempt_ = 0;
  int num_open_ = 0, num_closed_ = 0;
  std::mutex mutex_;
  std::vector<std::string> frames_;  // guarded by mutex_
  std::unique_ptr<ChannelLayer> layer_;
  std::unique_ptr<Channel> edge_;
};

TEST_F(EdgeTest, PassesWholeFramesOnWhileItIsNotUp) {
  MakeEdge("fake 2");
  EXPECT_FALSE(edge_->Send(Frame()));
  up_->OnOpen();
  EXPECT_EQ(edge_->carrier(), "below");
  EXPECT_TRUE(edge_->Send(Frame()));
  EXPECT_EQ(other_->whole(), std::vector<std::string>{Frame()});
  EXPECT_TRUE(up_->OnFrame(Frame()).ok());
  EXPECT_EQ(frames(), std::vector<std::string>{Frame()});
  up_->OnClosed(absl::UnavailableError("gone"));
  EXPECT_FALSE(edge_->Send(Frame()));
  EXPECT_EQ(num_open_, 1);
  EXPECT_EQ(num_closed_, 1);
}

// It never speaks of the carrier to a shard that would take that for a malformed frame.
TEST_F(EdgeTest, SettlesOnTheChannelBelowWhereTheShardHasNoLayer) {
  MakeEdge("");
  up_->OnOpen();
  ASSERT_TRUE(Await([this] { return !edge_->carrier_problem().empty(); }));
  EXPECT_EQ(edge_->carrier_problem(), "this rank has fake 2, the shard nothing of the kind");
  EXPECT_TRUE(edge_->Send(Frame()));
  EXPECT_EQ(other_->whole(), std::vector<std::string>{Frame()});
  EXPECT_EQ(other_->num_said(), 0u);
  EXPECT_EQ(edge_->carrier(), "below");
}

TEST_F(EdgeTest, NamesBothTermsWhereTheyDiffer) {
  MakeEdge("fake 1");
  up_->OnOpen();
  ASSERT_TRUE(Await([this] { return !edge_->carrier_problem().empty(); }));
  EXPECT_EQ(edge_->carrier_problem(), "this rank has fake 2, the shard fake 1");
  EXPECT_EQ(other_->num_said(), 0u);
}

TEST_F(EdgeTest, GivesUpAShardThatNeverJoinsAndSaysSo) {
  MakeEdge("fake 2", {.min_row_bytes = 1, .forming_timeout = absl::Milliseconds(1)});
  up_->OnOpen();
  ASSERT_TRUE(other_->Await(MessageKind::kDecline).has_value());
  ASSERT_TRUE(Await([this] { return !edge_->carrier_problem().empty(); }));
  EXPECT_THAT(edge_->carrier_problem(), HasSubstr("no fake for now: did not form within 1ms"));
  EXPECT_TRUE(edge_->Send(Frame()));
  EXPECT_EQ(other_->whole().size(), 1u);
}

TEST_F(EdgeTest, SaysWhyTheShardDeclined) {
  MakeEdge("fake 2");
  up_->OnOpen();
  const auto invite = other_->Await(MessageKind::kInvite);
  ASSERT_TRUE(invite.has_value());
  EXPECT_EQ(Tell({.kind = MessageKind::kDecline, .attempt = invite->attempt}, "no room"),
            absl::StatusCode::kOk);
  EXPECT_EQ(edge_->carrier_problem(), "no fake for now: the other side says: no room");
}

// A slot may hold anything until the other side says that it has sent its greeting.
TEST_F(EdgeTest, LooksForTheGreetingOnceItWasSent) {
  MakeEdge("fake 2");
  other_->SetRows("what an edge before this one left");
  ASSERT_NO_FATAL_FAILURE(AcceptInvitation());
  other_->SetRows("orrery");
  ASSERT_EQ(Tell({.kind = MessageKind::kGreeting}), absl::StatusCode::kOk);
  ASSERT_TRUE(other_->Await(MessageKind::kUp).has_value());
  EXPECT_EQ(edge_->carrier_problem(), "");
}

TEST_F(EdgeTest, PutsRowsOfAFrameTogetherAgain) {
  ASSERT_NO_FATAL_FAILURE(BringUp());
  EXPECT_EQ(edge_->carrier_problem(), "");
  const std::string rows = "sixteen bytes...";
  other_->SetRows(rows);
  EXPECT_EQ(
      Tell({.kind = MessageKind::kRows, .num_row_bytes = rows.size(), .rows_hash = RowsHash(rows)},
           "head "),
      absl::StatusCode::kOk);
  ASSERT_TRUE(Await([this] { return !frames().empty(); }));
  EXPECT_EQ(frames()[0], "head sixteen bytes...");
}

// As they may be if a writer that was given up is still at it.
TEST_F(EdgeTest, EndsAConnectionWhoseRowsWereOverwritten) {
  ASSERT_NO_FATAL_FAILURE(BringUp());
  other_->SetRows("sixteen others..");
  EXPECT_EQ(Tell({.kind = MessageKind::kRows,
                  .num_row_bytes = 16,
                  .rows_hash = RowsHash("sixteen bytes...")},
                 "head "),
            absl::StatusCode::kUnavailable);
  EXPECT_TRUE(frames().empty());
  EXPECT_FALSE(edge_->Send(Frame()));
  EXPECT_THAT(edge_->carrier_problem(), HasSubstr("lost fake: rows came otherwise"));
}

TEST_F(EdgeTest, SendsFramesWholeWhileTheOtherSideHasNoFreeSlot) {
  ASSERT_NO_FATAL_FAILURE(BringUp());
  for (int i = 0; i < kSlotsPerPipe; ++i) EXPECT_TRUE(edge_->Send(Frame()));
  EXPECT_TRUE(other_->whole().empty());
  EXPECT_TRUE(edge_->Send(Frame()));
  EXPECT_EQ(other_->whole().size(), 1u);
  EXPECT_EQ(Tell({.kind = MessageKind::kFreed, .num_freed = 2}), absl::StatusCode::kOk);
  EXPECT_TRUE(edge_->Send(Frame()));
  EXPECT_EQ(other_->whole().size(), 1u);
}

// A sender that hears nothing would count this side as lost.
TEST_F(EdgeTest, TellsTheOtherSideOfFreeSlots) {
  ASSERT_NO_FATAL_FAILURE(BringUp());
  other_->SetRows("sixteen bytes...");
  EXPECT_EQ(Tell({.kind = MessageKind::kRows,
                  .num_row_bytes = 16,
                  .rows_hash = RowsHash("sixteen bytes...")},
                 "head "),
            absl::StatusCode::kOk);
  const auto freed = other_->Await(MessageKind::kFreed);
  ASSERT_TRUE(freed.has_value());
  EXPECT_EQ(freed->num_freed, 2u);  // the greeting, which kUp told of, and this
}

TEST_F(EdgeTest, CountsAPeerThatFreesNoSlotAsLost) {
  MakeEdge("fake 2", {.min_row_bytes = 1, .operation_timeout = absl::Milliseconds(1)});
  ASSERT_NO_FATAL_FAILURE(FormWithShard());
  EXPECT_TRUE(edge_->Send(Frame()));
  ASSERT_TRUE(Await([this] { return !edge_->carrier_problem().empty(); }));
  EXPECT_THAT(edge_->carrier_problem(), HasSubstr("lost fake: sending 16 bytes took more than"));
}

TEST_F(EdgeTest, EndsConnectionsThatSendNonsense) {
  MakeEdge("");
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  const auto ends_with = [this](const std::string& bytes) {
    up_->OnOpen();
    const absl::StatusCode code = up_->OnFrame(bytes).code();
    up_->OnClosed(absl::CancelledError("it ended"));
    return code;
  };
  EXPECT_EQ(ends_with("ORRE"), kInvalid);
  EXPECT_EQ(ends_with(EncodeMessage({.version = 9}, "")), kInvalid);
  EXPECT_EQ(ends_with(EncodeMessage(
                {.kind = MessageKind::kRows, .num_row_bytes = kMaxFrameBytes + 1}, "")),
            kInvalid);
  // A shard's to get, not a rank's.
  EXPECT_EQ(ends_with(EncodeMessage({.kind = MessageKind::kInvite}, "")), kInvalid);
}

TEST_F(EdgeTest, EndsAConnectionThatFreesWhatWasNeverSent) {
  ASSERT_NO_FATAL_FAILURE(BringUp());
  EXPECT_EQ(Tell({.kind = MessageKind::kFreed, .num_freed = 2}),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(EdgeTest, EndsConnectionsWhoseRowsCannotCome) {
  MakeEdge("");
  up_->OnOpen();
  EXPECT_EQ(Tell({.kind = MessageKind::kRows, .attempt = 1, .num_row_bytes = 16}),
            absl::StatusCode::kUnavailable);
  EXPECT_TRUE(frames().empty());
}

TEST_F(EdgeTest, IgnoresWhatBelongsToAnAttemptThatIsOver) {
  MakeEdge("");
  up_->OnOpen();
  EXPECT_EQ(Tell({.kind = MessageKind::kUp, .attempt = 99}), absl::StatusCode::kOk);
  EXPECT_EQ(Tell({.kind = MessageKind::kDecline, .attempt = 99}, "no"), absl::StatusCode::kOk);
}

}  // namespace
}  // namespace orrery
