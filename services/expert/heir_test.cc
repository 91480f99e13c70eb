#include "services/expert/heir.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "checkpoint/test_files.h"
#include "device/host/host_device.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/factory/make_kernels.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int kLayer = 1;  // of fp8_w128, which has six experts in layers 1 and 2

ExpertKey Expert(int expert, int layer = kLayer) { return {.layer = layer, .expert = expert}; }

class HeirTest : public ::testing::Test {
 protected:
  HeirTest() {
    kernels_ = *MakeKernels(Backend::kCpu, CpuVariant::kBest, stream_.get());
    files_ = *WeightFiles::OpenCheckpoint(GoldenDir("fp8_w128"));
  }
  ~HeirTest() override {
    LetPrepare();
    if (heir_ != nullptr) heir_->Stop();
  }

  // It does not begin before LetPrepare.
  void Make(int max_experts, absl::Status prepared = absl::OkStatus()) {
    HeirOptions options;
    options.max_experts = max_experts;
    options.is_owned = [this](ExpertKey key) {
      std::lock_guard lock(mutex_);
      return owned_.count(key.expert) > 0;
    };
    options.hand_over = [this](ExpertKey key, FeedForwardWeights weights) {
      std::unique_lock lock(mutex_);
      EXPECT_NE(weights.gate, nullptr);
      loaded_.push_back(key.expert);
      changed_.notify_all();
      changed_.wait(lock, [this] { return !is_held_up_; });
    };
    options.drop = [this](ExpertKey key) {
      std::lock_guard lock(mutex_);
      dropped_.push_back(key.expert);
    };
    heir_ = std::make_unique<Heir>(ShardParts{.files = &*files_,
                                              .config = *ReadModelConfig(GoldenDir("fp8_w128")),
                                              .numerics = {.row_format = RowFormat::kF32},
                                              .kernels = kernels_.get(),
                                              .device = device_.get(),
                                              .stream = stream_.get()},
                                   options, &loaded_bytes_);
    heir_->Start([this, prepared] {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return may_prepare_; });
      return prepared;
    });
  }
  void LetPrepare() {
    std::lock_guard lock(mutex_);
    may_prepare_ = true;
    changed_.notify_all();
  }
  // Asks again and again, as ranks do, until it is no longer loading.
  EntryState AskUntilSettled(ExpertKey key) {
    const absl::Time deadline = absl::Now() + absl::Minutes(2);
    while (absl::Now() < deadline) {
      if (IsLoaded(key.expert)) return EntryState::kDone;
      const MissingAnswer answer = heir_->Ask(key, 1);
      if (answer.state != EntryState::kLoading) return answer.state;
      EXPECT_GE(answer.eta_ms, 1u);
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(answer.eta_ms));
    }
    return EntryState::kPending;
  }
  bool IsLoaded(int expert) {
    std::lock_guard lock(mutex_);
    return std::count(loaded_.begin(), loaded_.end(), expert) > 0;
  }
  void AwaitPrepared() {
    while (!heir_->room().has_value()) std::this_thread::yield();
  }

  std::unique_ptr<Device> device_ = MakeHostDevice();
  std::unique_ptr<Stream> stream_ = device_->MakeStream();
  std::unique_ptr<Kernels> kernels_;
  std::optional<WeightFiles> files_;
  std::atomic<int64_t> loaded_bytes_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  // All guarded by mutex_.
  bool may_prepare_ = false;
  bool is_held_up_ = false;  // after each expert
  std::set<int> owned_;
  std::vector<int> loaded_, dropped_;
  std::unique_ptr<Heir> heir_;
};

TEST_F(HeirTest, OffersNothingUntilItHasCheckedItsFiles) {
  Make(4);
  EXPECT_EQ(heir_->Ask(Expert(3), 1).state, EntryState::kNotHeld);
  EXPECT_FALSE(heir_->room().has_value());
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(heir_->room(), 4);
  EXPECT_EQ(AskUntilSettled(Expert(3)), EntryState::kDone);
  EXPECT_GT(loaded_bytes_, 0);
}

TEST_F(HeirTest, WithFilesThatFailedTheCheckItNeverLoads) {
  Make(4, absl::DataLossError("a file is truncated"));
  LetPrepare();
  EXPECT_EQ(heir_->Ask(Expert(3), 1).state, EntryState::kNotHeld);
  EXPECT_FALSE(heir_->room().has_value());
}

TEST_F(HeirTest, LoadsEachExpertOnceWhoeverAsks) {
  Make(4);
  LetPrepare();
  AwaitPrepared();
  heir_->Ask(Expert(3), 5);
  heir_->Ask(Expert(3), 7);
  EXPECT_EQ(AskUntilSettled(Expert(3)), EntryState::kDone);
  heir_->Stop();
  EXPECT_THAT(loaded_, ElementsAre(3));
  EXPECT_EQ(heir_->num_inherited(), 1);
}

TEST_F(HeirTest, LoadsThoseFirstForWhichMostRowsHaveAsked) {
  Make(4);
  is_held_up_ = true;
  LetPrepare();
  AwaitPrepared();
  heir_->Ask(Expert(0), 1);
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !loaded_.empty(); });
  }
  heir_->Ask(Expert(1), 6);
  heir_->Ask(Expert(2), 4);
  heir_->Ask(Expert(3), 1);
  heir_->Ask(Expert(2), 3);
  {
    std::lock_guard lock(mutex_);
    is_held_up_ = false;
    changed_.notify_all();
  }
  EXPECT_EQ(AskUntilSettled(Expert(3)), EntryState::kDone);
  heir_->Stop();
  EXPECT_THAT(loaded_, ElementsAre(0, 2, 1, 3));
}

TEST_F(HeirTest, PromisesNoMoreThanItHasRoomFor) {
  Make(2);
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(AskUntilSettled(Expert(0)), EntryState::kDone);
  EXPECT_EQ(AskUntilSettled(Expert(1)), EntryState::kDone);
  EXPECT_EQ(heir_->room(), 0);
  EXPECT_EQ(AskUntilSettled(Expert(2)), EntryState::kNotHeld);
}

TEST_F(HeirTest, DropsWhatItsOwnerServesAgainWhenRoomIsNeededAndNothingElse) {
  Make(2);
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(AskUntilSettled(Expert(0)), EntryState::kDone);
  EXPECT_EQ(AskUntilSettled(Expert(1)), EntryState::kDone);
  {
    std::lock_guard lock(mutex_);
    owned_ = {1};
    EXPECT_THAT(dropped_, IsEmpty());
  }
  EXPECT_EQ(heir_->room(), 1);
  EXPECT_EQ(AskUntilSettled(Expert(2)), EntryState::kDone);
  EXPECT_EQ(AskUntilSettled(Expert(3)), EntryState::kNotHeld);
  heir_->Stop();
  EXPECT_THAT(dropped_, ElementsAre(1));
  EXPECT_THAT(loaded_, ElementsAre(0, 1, 2));
}

TEST_F(HeirTest, WhatDoesNotExistIsNotHeld) {
  Make(4);
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(heir_->Ask(Expert(6), 1).state, EntryState::kNotHeld);
  EXPECT_EQ(heir_->Ask(Expert(-1), 1).state, EntryState::kNotHeld);
  EXPECT_EQ(heir_->Ask(Expert(0, /*layer=*/0), 1).state, EntryState::kNotHeld);  // dense
  EXPECT_EQ(heir_->Ask(Expert(0, /*layer=*/3), 1).state, EntryState::kNotHeld);
}

}  // namespace
}  // namespace orrery
