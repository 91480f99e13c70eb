#include "exchange/shm/ring.h"

#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "exchange/exchange.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

// A ring in memory of one process, guarded by bytes that nobody may touch.
class RingTest : public ::testing::Test {
 protected:
  static constexpr size_t kSize = 256;
  static constexpr size_t kGuard = 64;

  RingTest() : memory_(kSize + 2 * kGuard, kUntouched) {}
  ~RingTest() override {
    for (size_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(memory_[i], kUntouched);
      EXPECT_EQ(memory_[kGuard + kSize + i], kUntouched);
    }
  }
  RingPlace place() { return {&control_, memory_.data() + kGuard, kSize}; }
  static std::string Frame(size_t size, int seed) {
    std::string frame(size, '\0');
    for (size_t i = 0; i < size; ++i) frame[i] = static_cast<char>(seed + 3 * i);
    return frame;
  }
  // What a hostile writer puts at the reader's place.
  void PutLength(uint64_t length) { std::memcpy(memory_.data() + kGuard, &length, sizeof(length)); }

  RingControl control_;

 private:
  static constexpr std::byte kUntouched{0xee};
  std::vector<std::byte> memory_;
};

TEST_F(RingTest, BringsFramesOfAllSizesAcrossItsEnd) {
  RingWriter writer(place());
  RingReader reader(place());
  for (size_t i = 0; i < 2000; ++i) {
    const std::string frame = Frame(1 + i % (kSize - 8), static_cast<int>(i));
    ASSERT_TRUE(writer.Write(frame).value()) << i;
    EXPECT_EQ(reader.Read().value(), frame);
    EXPECT_EQ(reader.Read().value(), std::nullopt);
  }
}

TEST_F(RingTest, SaysWhenItIsFullAndTakesMoreOnceAFrameIsOut) {
  RingWriter writer(place());
  RingReader reader(place());
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(writer.Write(Frame(56, i)).value());
  EXPECT_FALSE(writer.Write("x").value());
  EXPECT_FALSE(reader.WriterWaits());
  writer.AwaitRoom();
  EXPECT_EQ(reader.Read().value(), Frame(56, 0));
  EXPECT_TRUE(reader.WriterWaits());
  EXPECT_FALSE(reader.WriterWaits());
  EXPECT_TRUE(writer.Write(Frame(56, 4)).value());
  for (int i = 1; i < 5; ++i) EXPECT_EQ(reader.Read().value(), Frame(56, i));
}

TEST_F(RingTest, RingsOnlyForAReaderThatSleeps) {
  RingWriter writer(place());
  RingReader reader(place());
  EXPECT_TRUE(writer.Write("first").ok());
  EXPECT_TRUE(writer.ReaderSleeps());  // as at the start
  EXPECT_TRUE(writer.Write("second").ok());
  EXPECT_FALSE(writer.ReaderSleeps());
  EXPECT_EQ(reader.Read().value(), "first");
  EXPECT_FALSE(reader.Sleep());  // one is left
  EXPECT_EQ(reader.Read().value(), "second");
  EXPECT_TRUE(reader.Sleep());
}

TEST_F(RingTest, RefusesIndexesThatCannotBe) {
  for (const uint64_t tail : {uint64_t{1}, uint64_t{7}, uint64_t{kSize + 1}, ~uint64_t{0}}) {
    RingReader reader(place());
    PutLength(1);
    control_.tail = tail;
    EXPECT_EQ(reader.Read().status().code(), absl::StatusCode::kDataLoss) << tail;
  }
  RingWriter writer(place());
  for (const uint64_t head : {uint64_t{1}, uint64_t{1} << 63, ~uint64_t{0} - kSize}) {
    control_.head = head;
    EXPECT_EQ(writer.Write("x").status().code(), absl::StatusCode::kDataLoss) << head;
  }
}

TEST_F(RingTest, RefusesLengthsThatCannotBe) {
  control_.tail = 64;
  for (const uint64_t length : {uint64_t{0}, uint64_t{57}, uint64_t{kSize}, kMaxFrameBytes + 1,
                                ~uint64_t{0}, ~uint64_t{0} - 7}) {
    RingReader reader(place());
    PutLength(length);
    EXPECT_EQ(reader.Read().status().code(), absl::StatusCode::kDataLoss) << length;
  }
}

// Each waits for the other as processes do, with yields in place of bells.
TEST_F(RingTest, CarriesManyFramesBetweenTwoThreads) {
  constexpr int kNumFrames = 20'000;
  std::thread writing([&] {
    RingWriter writer(place());
    for (int i = 0; i < kNumFrames; ++i) {
      while (!writer.Write(Frame(1 + i % 100, i)).value()) std::this_thread::yield();
    }
  });
  RingReader reader(place());
  for (int i = 0; i < kNumFrames;) {
    const std::optional<std::string> frame = reader.Read().value();
    if (!frame.has_value()) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(*frame, Frame(1 + i % 100, i));
    ++i;
  }
  writing.join();
}

}  // namespace
}  // namespace orrery
