// What every Device must do, as a suite that each implementation instantiates:
//
//   INSTANTIATE_TEST_SUITE_P(Host, DeviceConformance,
//                            testing::Values(DeviceFactory([] { return MakeHostDevice(); })));
//
// A factory that answers UNAVAILABLE (no such hardware here) skips the suite, and says so.
#ifndef ORRERY_DEVICE_DEVICE_CONFORMANCE_H_
#define ORRERY_DEVICE_DEVICE_CONFORMANCE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "device/device.h"

namespace orrery {

using DeviceFactory = std::function<absl::StatusOr<std::unique_ptr<Device>>()>;

class DeviceConformance : public testing::TestWithParam<DeviceFactory> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Device>> device = GetParam()();
    if (absl::IsUnavailable(device.status())) {
      GTEST_SKIP() << "SKIPPED, nothing was tested: " << device.status();
    }
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    stream_ = device_->MakeStream();
  }

  Buffer MustAllocate(size_t num_bytes, MemoryKind kind = MemoryKind::kDevice) {
    absl::StatusOr<Buffer> buffer = device_->Allocate(num_bytes, kind);
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    return buffer.ok() ? *std::move(buffer) : Buffer();
  }

  std::vector<uint8_t> Read(const Buffer& buffer) {
    std::vector<uint8_t> bytes(buffer.num_bytes(), 0xee);
    stream_->CopyToHost(bytes.data(), buffer.data(), bytes.size());
    EXPECT_TRUE(stream_->Synchronize().ok());
    return bytes;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

TEST_P(DeviceConformance, SharesBytesOfTheHost) {
  const auto bytes = std::make_shared<std::vector<uint8_t>>(1000);
  std::iota(bytes->begin(), bytes->end(), uint8_t{1});
  absl::StatusOr<Buffer> buffer = device_->Share(bytes->data(), bytes->size(), bytes);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_EQ(Read(*buffer), *bytes);
  *buffer = Buffer();
  EXPECT_EQ(bytes.use_count(), 1);
}

TEST_P(DeviceConformance, SaysItsName) { EXPECT_FALSE(device_->name().empty()); }

TEST_P(DeviceConformance, GivesZeroedAlignedMemoryOfBothKinds) {
  for (MemoryKind kind : {MemoryKind::kDevice, MemoryKind::kPinnedHost}) {
    for (size_t num_bytes : {1, 63, 64, 65, 4097}) {
      const Buffer buffer = MustAllocate(num_bytes, kind);
      EXPECT_EQ(buffer.num_bytes(), num_bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
      EXPECT_EQ(Read(buffer), std::vector<uint8_t>(num_bytes, 0));
    }
  }
}

TEST_P(DeviceConformance, AllocatesNothingWithoutError) {
  EXPECT_EQ(MustAllocate(0).num_bytes(), 0u);
}

TEST_P(DeviceConformance, RefusesMoreThanThereIs) {
  for (size_t num_bytes : {std::numeric_limits<size_t>::max(), size_t{1} << 60}) {
    for (MemoryKind kind : {MemoryKind::kDevice, MemoryKind::kPinnedHost}) {
      const absl::Status status = device_->Allocate(num_bytes, kind).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    }
  }
  // A refusal leaves the device usable.
  EXPECT_EQ(MustAllocate(16).num_bytes(), 16u);
}

TEST_P(DeviceConformance, KnowsItsMemory) {
  const absl::StatusOr<MemoryBytes> memory = device_->memory();
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_GT(memory->total, 0u);
  EXPECT_LE(memory->free, memory->total);
}

// Zeroed too where something else stood there before; what is given back can be given out again.
TEST_P(DeviceConformance, GivesMemoryOutOfWhatItReserved) {
  constexpr size_t kNumBytes = 1 << 20;
  ASSERT_TRUE(device_->Reserve(kNumBytes).ok());
  const std::vector<uint8_t> ones(kNumBytes / 2, 1);
  for (int round = 0; round < 5; ++round) {
    const Buffer half = MustAllocate(kNumBytes / 2), some = MustAllocate(1000);
    EXPECT_EQ(Read(half), std::vector<uint8_t>(ones.size(), 0));
    stream_->CopyToDevice(half.data(), ones.data(), ones.size());
    EXPECT_TRUE(stream_->Synchronize().ok());
    EXPECT_EQ(Read(some), std::vector<uint8_t>(1000, 0));
  }
}

// Replays see what stands in memory then; nothing happens while they are captured.
TEST_P(DeviceConformance, ReplaysWhatItCaptured) {
  if (!stream_->can_capture()) GTEST_SKIP() << "this device captures nothing";
  const Buffer from = MustAllocate(64), to = MustAllocate(64);
  absl::StatusOr<std::unique_ptr<Graph>> graph =
      stream_->Capture([&] { stream_->CopyOnDevice(to.data(), from.data(), 64); });
  ASSERT_TRUE(graph.ok()) << graph.status();
  std::vector<uint8_t> sent(64, 7);
  stream_->CopyToDevice(from.data(), sent.data(), 64);
  EXPECT_EQ(Read(to), std::vector<uint8_t>(64, 0));
  for (const uint8_t value : {7, 9}) {
    sent.assign(64, value);
    stream_->CopyToDevice(from.data(), sent.data(), 64);
    stream_->Replay(**graph);
    EXPECT_EQ(Read(to), sent);
  }
}

TEST_P(DeviceConformance, RefusesToWaitWithinACapture) {
  if (!stream_->can_capture()) GTEST_SKIP() << "this device captures nothing";
  EXPECT_FALSE(stream_->Capture([&] { stream_->Synchronize().IgnoreError(); }).ok());
  // It leaves the stream usable.
  const std::vector<uint8_t> sent(64, 7);
  const Buffer buffer = MustAllocate(64);
  stream_->CopyToDevice(buffer.data(), sent.data(), 64);
  EXPECT_EQ(Read(buffer), sent);
}

TEST_P(DeviceConformance, CopiesThereAndBack) {
  std::vector<uint8_t> sent(1000);
  std::iota(sent.begin(), sent.end(), uint8_t{3});
  const Buffer buffer = MustAllocate(sent.size());
  stream_->CopyToDevice(buffer.data(), sent.data(), sent.size());
  EXPECT_EQ(Read(buffer), sent);
}

TEST_P(DeviceConformance, CopiesNothing) {
  stream_->CopyToDevice(nullptr, nullptr, 0);
  stream_->CopyToHost(nullptr, nullptr, 0);
  EXPECT_TRUE(stream_->Synchronize().ok());
}

// The second stream reads what the first one wrote, because it waits for the event.
TEST_P(DeviceConformance, OrdersTwoStreamsByAnEvent) {
  const std::vector<uint8_t> sent(1 << 20, 0x5a);
  std::vector<uint8_t> received(sent.size());
  const Buffer buffer = MustAllocate(sent.size());
  const std::unique_ptr<Stream> second = device_->MakeStream();
  stream_->CopyToDevice(buffer.data(), sent.data(), sent.size());
  const std::unique_ptr<Event> written = stream_->Record();
  second->Wait(*written);
  second->CopyToHost(received.data(), buffer.data(), received.size());
  ASSERT_TRUE(second->Synchronize().ok());
  EXPECT_EQ(received, sent);
}

TEST_P(DeviceConformance, MovesBuffersWithoutCopyingOrFreeingTwice) {
  Buffer first = MustAllocate(64);
  void* const data = first.data();
  Buffer second = std::move(first);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(first.data(), nullptr);  // NOLINT: what a moved-from buffer looks like is the point
  second = MustAllocate(32);
  EXPECT_EQ(second.num_bytes(), 32u);
}

TEST_P(DeviceConformance, SynchronizesAnIdleStreamAgainAndAgain) {
  EXPECT_TRUE(stream_->Synchronize().ok());
  EXPECT_TRUE(stream_->Synchronize().ok());
}

}  // namespace orrery

#endif  // ORRERY_DEVICE_DEVICE_CONFORMANCE_H_
