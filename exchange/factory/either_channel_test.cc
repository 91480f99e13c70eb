#include "exchange/factory/either_channel.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "exchange/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A transport in the test's hands.
class FakeChannel : public Channel {
 public:
  FakeChannel(std::string name, ChannelSink* sink, std::vector<std::string>* log)
      : sink(sink), name_(std::move(name)), log_(log) {}
  bool Send(std::string frame) override {
    log_->push_back(absl::StrCat(name_, " takes ", frame));
    return true;
  }
  void Close(const absl::Status&) override { log_->push_back(absl::StrCat("close ", name_)); }
  void Knock() override { log_->push_back(absl::StrCat("knock at ", name_)); }
  std::string_view carrier() const override { return name_; }

  ChannelSink* const sink;

 private:
  const std::string name_;
  std::vector<std::string>* const log_;
};

class EitherChannelTest : public ::testing::Test, public ChannelSink {
 protected:
  void OnOpen() override { log_.push_back("open"); }
  absl::Status OnFrame(std::string frame) override {
    log_.push_back(absl::StrCat("frame ", frame));
    return absl::OkStatus();
  }
  void OnClosed(const absl::Status&) override {
    log_.push_back(either_.Send("x") ? "closed too late" : "closed");
  }
  std::vector<std::string> Log() { return std::exchange(log_, {}); }
  ChannelFactory Make(const std::string& name, FakeChannel*& made) {
    return [this, name, &made](int, Lane, ChannelSink* sink) {
      auto channel = std::make_unique<FakeChannel>(name, sink, &log_);
      made = channel.get();
      return channel;
    };
  }

  std::vector<std::string> log_;
  FakeChannel* shm_ = nullptr;
  FakeChannel* grpc_ = nullptr;
  EitherChannel either_{
      {.first = Make("shm", shm_), .second = Make("grpc", grpc_)}, 0, Lane::kDecode, this};
};

TEST_F(EitherChannelTest, TakesNothingWhileNeitherIsOpen) {
  EXPECT_FALSE(either_.Send("a"));
  EXPECT_EQ(either_.carrier(), "");
  EXPECT_THAT(Log(), IsEmpty());
}

TEST_F(EitherChannelTest, ChangesOverToTheFirstWithoutAnEvent) {
  grpc_->sink->OnOpen();
  EXPECT_TRUE(either_.Send("a"));
  shm_->sink->OnOpen();
  EXPECT_TRUE(either_.Send("b"));
  ASSERT_TRUE(grpc_->sink->OnFrame("answer to a").ok());
  EXPECT_EQ(either_.carrier(), "shm");
  EXPECT_THAT(Log(), ElementsAre("open", "grpc takes a", "shm takes b", "frame answer to a"));
}

TEST_F(EitherChannelTest, ALossOfTheFirstIsToldAndTheSecondGoesOn) {
  grpc_->sink->OnOpen();
  shm_->sink->OnOpen();
  shm_->sink->OnClosed(absl::UnavailableError("gone"));
  EXPECT_TRUE(either_.Send("a"));
  EXPECT_THAT(Log(), ElementsAre("open", "closed", "open", "grpc takes a"));
}

TEST_F(EitherChannelTest, ALossOfTheSecondIsToldIfFramesWereUnderWayOnIt) {
  grpc_->sink->OnOpen();
  EXPECT_TRUE(either_.Send("a"));
  shm_->sink->OnOpen();
  grpc_->sink->OnClosed(absl::UnavailableError("gone"));
  EXPECT_TRUE(either_.Send("b"));
  EXPECT_THAT(Log(), ElementsAre("open", "grpc takes a", "closed", "open", "shm takes b"));
}

TEST_F(EitherChannelTest, ALossOfTheSecondIsNoneOnceItsFramesAreAnswered) {
  grpc_->sink->OnOpen();
  EXPECT_TRUE(either_.Send("a"));
  shm_->sink->OnOpen();
  ASSERT_TRUE(grpc_->sink->OnFrame("answer to a").ok());
  grpc_->sink->OnClosed(absl::UnavailableError("gone"));
  EXPECT_TRUE(either_.Send("b"));
  EXPECT_THAT(Log(), ElementsAre("open", "grpc takes a", "frame answer to a", "shm takes b"));
}

TEST_F(EitherChannelTest, IsClosedOnceBothAre) {
  grpc_->sink->OnOpen();
  shm_->sink->OnOpen();
  shm_->sink->OnClosed(absl::UnavailableError("gone"));
  grpc_->sink->OnClosed(absl::UnavailableError("gone"));
  EXPECT_FALSE(either_.Send("a"));
  EXPECT_THAT(Log(), ElementsAre("open", "closed", "open", "closed"));
}

TEST_F(EitherChannelTest, TakesBackWhatWentTheOtherWayToo) {
  grpc_->sink->OnOpen();
  EXPECT_TRUE(either_.Send("a"));
  shm_->sink->OnOpen();
  const std::string abandon = EncodeAbandon({});
  EXPECT_TRUE(either_.Send(abandon));
  EXPECT_THAT(Log(),
              ElementsAre("open", "grpc takes a", "grpc takes " + abandon, "shm takes " + abandon));
}

TEST_F(EitherChannelTest, KnocksWhereALateAnswerMayComeFrom) {
  grpc_->sink->OnOpen();
  EXPECT_TRUE(either_.Send("a"));
  shm_->sink->OnOpen();
  either_.Knock();
  EXPECT_TRUE(either_.Send("b"));
  either_.Knock();
  EXPECT_THAT(Log(), ElementsAre("open", "grpc takes a", "knock at grpc", "shm takes b",
                                 "knock at shm", "knock at grpc"));
}

TEST_F(EitherChannelTest, ClosesBoth) {
  either_.Close(absl::CancelledError("enough"));
  EXPECT_THAT(Log(), ElementsAre("close shm", "close grpc"));
}

}  // namespace
}  // namespace orrery
