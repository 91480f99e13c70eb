#include "exchange/edge/undertaker.h"

#include <condition_variable>
#include <memory>
#include <mutex>

#include "absl/time/clock.h"
#include "exchange/wait.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

absl::Time Far() { return absl::Now() + absl::Minutes(1); }

// Burials that hang until they are let go.
class Hearse {
 public:
  void Hang() {
    std::unique_lock lock(mutex_);
    ++num_hanging_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return let_go_; });
    --num_hanging_;
    ++num_buried_;
    changed_.notify_all();
  }
  void LetGo() {
    std::lock_guard lock(mutex_);
    let_go_ = true;
    changed_.notify_all();
  }
  bool AwaitHanging(int n) {
    std::unique_lock lock(mutex_);
    return WaitUntil(changed_, lock, Far(), [&] { return num_hanging_ == n; });
  }
  bool AwaitBuried(int n) {
    std::unique_lock lock(mutex_);
    return WaitUntil(changed_, lock, Far(), [&] { return num_buried_ == n; });
  }
  int num_hanging() {
    std::lock_guard lock(mutex_);
    return num_hanging_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool let_go_ = false;
  int num_hanging_ = 0, num_buried_ = 0;
};

// Takes no part in anything but its end.
class DeadMover : public Mover {
 public:
  explicit DeadMover(std::shared_ptr<Hearse> hearse) : hearse_(std::move(hearse)) {}
  ~DeadMover() override { hearse_->Hang(); }
  absl::Status Meet(std::string_view) override { return absl::OkStatus(); }
  int num_slots() const override { return 1; }
  std::byte* host(int) const override { return nullptr; }
  absl::StatusOr<bool> Ready() override { return false; }
  absl::Status Start(int, size_t) override { return absl::OkStatus(); }
  absl::Status Finish(int, size_t) override { return absl::OkStatus(); }
  absl::StatusOr<bool> IsOver(int) override { return false; }

 private:
  const std::shared_ptr<Hearse> hearse_;
};

std::unique_ptr<Pipe> DeadPipe(const std::shared_ptr<Hearse>& hearse) {
  return std::make_unique<Pipe>(Direction::kSend, std::make_unique<DeadMover>(hearse), false);
}

TEST(Undertaker, WaitsAtItsEndForWhatIsUnderWay) {
  const auto hearse = std::make_shared<Hearse>();
  hearse->LetGo();
  {
    Undertaker undertaker(absl::Minutes(1));
    for (int i = 0; i < 3; ++i) undertaker.Bury(DeadPipe(hearse));
    undertaker.Bury(nullptr);
  }
  EXPECT_TRUE(hearse->AwaitBuried(3));
}

TEST(Undertaker, ABurialThatHangsHoldsUpNoOther) {
  const auto hanging = std::make_shared<Hearse>(), quick = std::make_shared<Hearse>();
  quick->LetGo();
  Undertaker undertaker(absl::Minutes(1));
  undertaker.Bury(DeadPipe(hanging));
  ASSERT_TRUE(hanging->AwaitHanging(1));
  for (int i = 0; i < 5; ++i) undertaker.Bury(DeadPipe(quick));
  EXPECT_TRUE(quick->AwaitBuried(5));
  hanging->LetGo();
}

// Those beyond the limit come to it as soon as one ends.
TEST(Undertaker, HangsInSoManyThreadsAndNoMore) {
  const auto hearse = std::make_shared<Hearse>();
  {
    Undertaker undertaker(absl::Milliseconds(1));
    for (int i = 0; i < 3 * Undertaker::kMaxThreads; ++i) undertaker.Bury(DeadPipe(hearse));
    ASSERT_TRUE(hearse->AwaitHanging(Undertaker::kMaxThreads));
  }  // it does not wait for them for ever
  EXPECT_EQ(hearse->num_hanging(), Undertaker::kMaxThreads);
  hearse->LetGo();
  EXPECT_TRUE(hearse->AwaitBuried(3 * Undertaker::kMaxThreads));
}

}  // namespace
}  // namespace orrery
