// An edge over a channel in the test's hands: what it makes of strange messages, and what it sends whole.

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "device/cuda/cuda_device.h"
#include "exchange/frame.h"
#include "exchange/nccl/message.h"
#include "exchange/nccl/nccl_layer.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

class FakeBelow : public Channel {
 public:
  bool Send(std::string frame) override {
    if (!IsMessage(std::string_view(frame))) whole.push_back(std::move(frame));
    return true;
  }
  void Close(const absl::Status&) override {}
  std::string_view carrier() const override { return "below"; }

  std::vector<std::string> whole;
};

class NcclEdgeTest : public testing::Test, public ChannelSink {
 protected:
  NcclEdgeTest() {
    // One edge's slots, and nobody on the other side who would join.
    layer_ = MakeNcclLayer({.max_edges = 1, .min_row_bytes = 1}, MakeCudaDevice(0).value()).value();
    edge_ = layer_->OverChannels([this](int, Lane, ChannelSink* sink) {
      auto below = std::make_unique<FakeBelow>();
      below_ = below.get();
      up_ = sink;
      return below;
    })(0, Lane::kDecode, this);
  }
  void OnOpen() override { ++num_open_; }
  absl::Status OnFrame(std::string frame) override {
    frames_.push_back(std::move(frame));
    return absl::OkStatus();
  }
  void OnClosed(const absl::Status&) override { ++num_closed_; }

  absl::StatusCode Tell(MessageHeader header, const std::string& body = "") {
    return up_->OnFrame(EncodeMessage(header, std::string_view(body))).code();
  }

  FakeBelow* below_ = nullptr;
  ChannelSink* up_ = nullptr;  // where the channel below reports to
  int num_open_ = 0, num_closed_ = 0;
  std::vector<std::string> frames_;
  std::unique_ptr<ChannelLayer> layer_;
  std::unique_ptr<Channel> edge_;
};

TEST_F(NcclEdgeTest, PassesWholeFramesOnWhileItIsNotUp) {
  const std::vector<std::byte> row(16);
  const std::vector<DispatchEntry> entries = {{.row = 0, .expert = 1, .result = 0}};
  const std::string frame = EncodeDispatch({.row_bytes = 16}, entries, row.data());
  EXPECT_FALSE(edge_->Send(frame));
  up_->OnOpen();
  EXPECT_EQ(edge_->carrier(), "below");
  EXPECT_TRUE(edge_->Send(frame));
  EXPECT_EQ(below_->whole, std::vector<std::string>{frame});
  EXPECT_TRUE(up_->OnFrame(frame).ok());
  EXPECT_EQ(frames_, std::vector<std::string>{frame});
  up_->OnClosed(absl::UnavailableError("gone"));
  EXPECT_FALSE(edge_->Send(frame));
  EXPECT_EQ(num_open_, 1);
  EXPECT_EQ(num_closed_, 1);
}

TEST_F(NcclEdgeTest, EndsConnectionsThatSendNonsense) {
  up_->OnOpen();
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(up_->OnFrame("ORRN").code(), kInvalid);
  EXPECT_EQ(Tell({.version = 9}), kInvalid);
  EXPECT_EQ(Tell({.kind = MessageKind::kRows, .num_row_bytes = kMaxFrameBytes + 1}), kInvalid);
  EXPECT_EQ(Tell({.kind = MessageKind::kInvite}), kInvalid);  // a shard's to get, not a rank's
}

TEST_F(NcclEdgeTest, EndsConnectionsWhoseRowsCannotCome) {
  up_->OnOpen();
  EXPECT_EQ(Tell({.kind = MessageKind::kRows, .attempt = 1, .num_row_bytes = 16}),
            absl::StatusCode::kUnavailable);
  EXPECT_TRUE(frames_.empty());
}

TEST_F(NcclEdgeTest, IgnoresWhatBelongsToAnAttemptThatIsOver) {
  up_->OnOpen();
  EXPECT_EQ(Tell({.kind = MessageKind::kUp, .attempt = 99}), absl::StatusCode::kOk);
  EXPECT_EQ(Tell({.kind = MessageKind::kDecline, .attempt = 99}, "no"), absl::StatusCode::kOk);
}

}  // namespace
}  // namespace orrery
