#include "services/expert/copies.h"

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

class CopiesTest : public ::testing::Test {
 protected:
  CopiesTest() {
    kernels_ = *MakeKernels(Backend::kCpu, CpuVariant::kBest, stream_.get());
    files_ = *WeightFiles::OpenCheckpoint(GoldenDir("fp8_w128"));
  }
  ~CopiesTest() override {
    LetPrepare();
    if (copies_ != nullptr) copies_->Stop();
  }

  // It does not begin before LetPrepare.
  void Make(int max_copies, absl::Status prepared = absl::OkStatus()) {
    CopiesOptions options;
    options.max_copies = max_copies;
    options.home = {5, 6};
    options.min_stay = min_stay_;
    options.is_served = [this](ExpertKey key) {
      std::lock_guard lock(mutex_);
      return served_.count(key.expert) > 0;
    };
    options.is_held_before = [this](ExpertKey key) {
      std::lock_guard lock(mutex_);
      return held_before_.count(key.expert) > 0;
    };
    options.hand_over = [this](ExpertKey key, FeedForwardWeights weights) {
      std::unique_lock lock(mutex_);
      EXPECT_NE(weights.gate, nullptr);
      loaded_.push_back(key.expert);
      held_.insert(key.expert);
      changed_.notify_all();
      changed_.wait(lock, [this] { return !is_held_up_; });
    };
    options.drop = [this](ExpertKey key) {
      std::lock_guard lock(mutex_);
      dropped_.push_back(key.expert);
      held_.erase(key.expert);
      changed_.notify_all();
    };
    copies_ = std::make_unique<Copies>(ShardParts{.files = &*files_,
                                                  .config = *ReadModelConfig(GoldenDir("fp8_w128")),
                                                  .numerics = {.row_format = RowFormat::kF32},
                                                  .kernels = kernels_.get(),
                                                  .device = device_.get(),
                                                  .stream = stream_.get()},
                                       options, &loaded_bytes_);
    copies_->Start([this, prepared] {
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
  // Expert 0 is asked for, and stays between loading and held until LetItGoOn.
  void HoldUpTheFirst() {
    is_held_up_ = true;
    LetPrepare();
    AwaitPrepared();
    copies_->Ask(Expert(0), 1);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !loaded_.empty(); });
  }
  void LetItGoOn() {
    std::lock_guard lock(mutex_);
    is_held_up_ = false;
    changed_.notify_all();
  }
  // Asks again and again, as ranks do, until it is no longer loading.
  EntryState AskUntilSettled(ExpertKey key) {
    const absl::Time deadline = absl::Now() + absl::Minutes(2);
    while (absl::Now() < deadline) {
      if (IsLoaded(key.expert)) return EntryState::kDone;
      const MissingAnswer answer = copies_->Ask(key, 1);
      if (answer.state != EntryState::kLoading) return answer.state;
      EXPECT_GE(answer.eta_ms, 1u);
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(answer.eta_ms));
    }
    return EntryState::kPending;
  }
  absl::Status Want(const std::vector<int>& experts) {
    std::vector<ExpertKey> keys;
    for (const int expert : experts) keys.push_back(Expert(expert));
    return copies_->Want(keys);
  }
  void SetServed(std::set<int> experts) {
    std::lock_guard lock(mutex_);
    served_ = std::move(experts);
  }
  void SetHeldBefore(std::set<int> experts) {
    std::lock_guard lock(mutex_);
    held_before_ = std::move(experts);
  }
  void AwaitHeld(const std::set<int>& experts) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::minutes(2), [&] { return held_ == experts; });
    EXPECT_EQ(held_, experts);
  }
  bool IsLoaded(int expert) {
    std::lock_guard lock(mutex_);
    return std::count(loaded_.begin(), loaded_.end(), expert) > 0;
  }
  // There is no event to wait for; preparing takes microseconds here, and the test's time limit ends it if it hangs.
  void AwaitPrepared() {
    while (!copies_->room().has_value()) std::this_thread::yield();
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
  std::set<int> served_;
  std::set<int> held_before_;
  absl::Duration min_stay_ = absl::ZeroDuration();
  std::set<int> held_;
  std::vector<int> loaded_, dropped_;
  std::unique_ptr<Copies> copies_;
};

TEST_F(CopiesTest, OffersNothingUntilItHasCheckedItsFiles) {
  Make(4);
  EXPECT_EQ(copies_->Ask(Expert(3), 1).state, EntryState::kNotHeld);
  EXPECT_FALSE(copies_->room().has_value());
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(copies_->room(), 4);
  EXPECT_EQ(AskUntilSettled(Expert(3)), EntryState::kDone);
  EXPECT_GT(loaded_bytes_, 0);
}

TEST_F(CopiesTest, WithFilesThatFailedTheCheckItNeverLoads) {
  Make(4, absl::DataLossError("a file is truncated"));
  LetPrepare();
  EXPECT_EQ(copies_->Ask(Expert(3), 1).state, EntryState::kNotHeld);
  EXPECT_FALSE(copies_->room().has_value());
}

TEST_F(CopiesTest, LoadsEachExpertOnceWhoeverAsks) {
  Make(4);
  LetPrepare();
  AwaitPrepared();
  copies_->Ask(Expert(3), 5);
  copies_->Ask(Expert(3), 7);
  EXPECT_EQ(AskUntilSettled(Expert(3)), EntryState::kDone);
  copies_->Stop();
  EXPECT_THAT(loaded_, ElementsAre(3));
  EXPECT_EQ(copies_->num_held(), 1);
}

TEST_F(CopiesTest, LoadsThoseFirstForWhichMostRowsHaveAsked) {
  Make(4);
  HoldUpTheFirst();
  copies_->Ask(Expert(1), 6);
  copies_->Ask(Expert(2), 4);
  copies_->Ask(Expert(3), 1);
  copies_->Ask(Expert(2), 3);
  LetItGoOn();
  EXPECT_EQ(AskUntilSettled(Expert(3)), EntryState::kDone);
  copies_->Stop();
  EXPECT_THAT(loaded_, ElementsAre(0, 2, 1, 3));
}

TEST_F(CopiesTest, PromisesNoMoreThanItHasRoomFor) {
  Make(2);
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(AskUntilSettled(Expert(0)), EntryState::kDone);
  EXPECT_EQ(AskUntilSettled(Expert(1)), EntryState::kDone);
  EXPECT_EQ(copies_->room(), 0);
  EXPECT_EQ(AskUntilSettled(Expert(2)), EntryState::kNotHeld);
}

TEST_F(CopiesTest, DropsWhatItsHomeServesAgainWhenRoomIsNeededAndNothingElse) {
  Make(2);
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(AskUntilSettled(Expert(0)), EntryState::kDone);
  EXPECT_EQ(AskUntilSettled(Expert(1)), EntryState::kDone);
  {
    std::lock_guard lock(mutex_);
    served_ = {1};
    EXPECT_THAT(dropped_, IsEmpty());
  }
  EXPECT_EQ(copies_->room(), 1);
  EXPECT_EQ(AskUntilSettled(Expert(2)), EntryState::kDone);
  EXPECT_EQ(AskUntilSettled(Expert(3)), EntryState::kNotHeld);
  copies_->Stop();
  EXPECT_THAT(dropped_, ElementsAre(1));
  EXPECT_THAT(loaded_, ElementsAre(0, 1, 2));
}

TEST_F(CopiesTest, WhatAShardBeforeItHoldsTooMakesWayForWhatRanksAskForAndStaysElse) {
  Make(2);
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(AskUntilSettled(Expert(0)), EntryState::kDone);
  EXPECT_EQ(AskUntilSettled(Expert(1)), EntryState::kDone);
  SetHeldBefore({1});
  EXPECT_EQ(copies_->room(), 1);
  EXPECT_EQ(Want({}), absl::OkStatus());
  EXPECT_EQ(AskUntilSettled(Expert(2)), EntryState::kDone);
  EXPECT_EQ(AskUntilSettled(Expert(3)), EntryState::kNotHeld);
  copies_->Stop();
  EXPECT_THAT(dropped_, ElementsAre(1));
  EXPECT_THAT(loaded_, ElementsAre(0, 1, 2));
}

TEST_F(CopiesTest, WhatAShardBeforeItHasLoadedMeanwhileIsLoadedLast) {
  Make(4);
  HoldUpTheFirst();
  copies_->Ask(Expert(1), 6);
  copies_->Ask(Expert(2), 1);
  EXPECT_EQ(copies_->num_loading(), 3) << "with the one that is being handed over";
  EXPECT_EQ(copies_->room(), 1);
  SetHeldBefore({1});
  EXPECT_EQ(copies_->num_loading(), 2);
  EXPECT_EQ(copies_->room(), 2);
  LetItGoOn();
  EXPECT_EQ(AskUntilSettled(Expert(1)), EntryState::kDone);
  copies_->Stop();
  EXPECT_EQ(copies_->num_loading(), 0);
  EXPECT_THAT(loaded_, ElementsAre(0, 2, 1));
}

// A rank that does not see who else has it would ask for it again.
TEST_F(CopiesTest, WhatRanksHaveAskedForLatelyStaysWhoeverElseHasIt) {
  min_stay_ = absl::InfiniteDuration();
  Make(2);
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(AskUntilSettled(Expert(0)), EntryState::kDone);
  EXPECT_EQ(AskUntilSettled(Expert(1)), EntryState::kDone);
  SetHeldBefore({0, 1});
  EXPECT_EQ(copies_->room(), 0);
  EXPECT_EQ(AskUntilSettled(Expert(2)), EntryState::kNotHeld);
  SetHeldBefore({});
  SetServed({1});
  EXPECT_EQ(Want({}), absl::OkStatus());
  EXPECT_EQ(copies_->room(), 1);
  EXPECT_EQ(AskUntilSettled(Expert(2)), EntryState::kDone);
  copies_->Stop();
  EXPECT_THAT(dropped_, ElementsAre(1));
}

TEST_F(CopiesTest, WhatIsWantedTakesTheRoomOfWhatAShardBeforeItHoldsAndKeepsItsOwn) {
  Make(2);
  LetPrepare();
  AwaitPrepared();
  SetServed({0});
  EXPECT_EQ(Want({0}), absl::OkStatus());
  AwaitHeld({0});
  EXPECT_EQ(AskUntilSettled(Expert(1)), EntryState::kDone);
  SetHeldBefore({1});
  EXPECT_EQ(Want({0, 2}), absl::OkStatus());
  AwaitHeld({0, 2});
  copies_->Stop();
  EXPECT_THAT(dropped_, ElementsAre(1));
}

TEST_F(CopiesTest, LoadsWhatIsWantedInItsOrderAndDropsItWhenItIsWantedNoMore) {
  Make(3);
  SetServed({0, 1, 2, 3, 4});
  LetPrepare();
  AwaitPrepared();
  ASSERT_TRUE(Want({3, 0}).ok());
  AwaitHeld({0, 3});
  ASSERT_TRUE(Want({0, 4, 1}).ok());
  AwaitHeld({0, 1, 4});
  EXPECT_EQ(copies_->room(), 3);  // all of them would make way
  ASSERT_TRUE(Want({}).ok());
  AwaitHeld({});
  copies_->Stop();
  EXPECT_THAT(loaded_, ElementsAre(3, 0, 4, 1));
}

// The last live copy, for all it knows.
TEST_F(CopiesTest, WhatItsHomeDoesNotServeStaysThoughItIsWantedNoMore) {
  Make(3);
  SetServed({0});
  LetPrepare();
  AwaitPrepared();
  ASSERT_TRUE(Want({0, 1}).ok());
  AwaitHeld({0, 1});
  ASSERT_TRUE(Want({}).ok());
  AwaitHeld({1});
  EXPECT_EQ(copies_->room(), 2);
  SetServed({0, 1});
  ASSERT_TRUE(Want({}).ok());
  AwaitHeld({});
}

TEST_F(CopiesTest, WhatIsWantedMakesWayForWhatRanksAskFor) {
  Make(2);
  SetServed({0, 1});
  LetPrepare();
  AwaitPrepared();
  ASSERT_TRUE(Want({0, 1}).ok());
  AwaitHeld({0, 1});
  EXPECT_EQ(AskUntilSettled(Expert(2)), EntryState::kDone);
  EXPECT_EQ(AskUntilSettled(Expert(3)), EntryState::kDone);
  AwaitHeld({2, 3});
  EXPECT_EQ(copies_->room(), 0);
  EXPECT_EQ(AskUntilSettled(Expert(4)), EntryState::kNotHeld);
  // Their home is back.
  SetServed({0, 1, 2, 3});
  ASSERT_TRUE(Want({1}).ok());
  AwaitHeld({1});
}

TEST_F(CopiesTest, RefusesListsThatCannotBe) {
  Make(2);
  EXPECT_EQ(Want({0}).code(), absl::StatusCode::kUnavailable);
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(Want({0, 1, 2}).message(),
            "3 copies are wanted, and limits.heir_bytes have room for 2");
  EXPECT_EQ(Want({0, 6}).message(),
            "the model has no layer 1 with an expert 6, of which a copy is wanted");
  EXPECT_EQ(Want({5}).message(),
            "a copy of layer 1, expert 5 is wanted where its home is: experts 5-5");
  copies_->Stop();
  EXPECT_EQ(Want({0}).code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(loaded_, IsEmpty());
}

TEST_F(CopiesTest, WhatDoesNotExistIsNotHeld) {
  Make(4);
  LetPrepare();
  AwaitPrepared();
  EXPECT_EQ(copies_->Ask(Expert(6), 1).state, EntryState::kNotHeld);
  EXPECT_EQ(copies_->Ask(Expert(-1), 1).state, EntryState::kNotHeld);
  EXPECT_EQ(copies_->Ask(Expert(0, /*layer=*/0), 1).state, EntryState::kNotHeld);  // dense
  EXPECT_EQ(copies_->Ask(Expert(0, /*layer=*/3), 1).state, EntryState::kNotHeld);
}

}  // namespace
}  // namespace orrery
