// device/cuda against the contract of a device, on the stand-in; and what it says of machines that have no
// fitting GPU.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "device/cuda/cuda_device.h"
#include "device/cuda/cuda_stream.h"
#include "device/device_conformance.h"
#include "tests/cuda/machine.h"

namespace orrery {
namespace {

using cuda_on_host::ScopedMachine;

INSTANTIATE_TEST_SUITE_P(CudaOnHost, DeviceConformance,
                         testing::Values(DeviceFactory([] { return MakeCudaDevice(0); })));

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

TEST(CudaOnHost, SaysWhatItIs) {
  EXPECT_EQ((*MakeCudaDevice(0))->name(), "cuda:0 stand-in on the host");
}

TEST(CudaOnHost, TakesTheDeviceThatItIsTold) {
  const ScopedMachine machine({.num_devices = 3});
  EXPECT_EQ((*MakeCudaDevice(2))->name(), "cuda:2 stand-in on the host");
}

TEST(CudaOnHost, SaysHowManyDevicesThereAre) {
  for (const int index : {-1, 1}) {
    const absl::Status status = MakeCudaDevice(index).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(MessageOf(status),
              "no CUDA device " + std::to_string(index) + ": the machine has 1, number 0");
  }
  const ScopedMachine machine({.num_devices = 4});
  EXPECT_EQ(MessageOf(MakeCudaDevice(4).status()), "no CUDA device 4: the machine has 4, 0 to 3");
}

TEST(CudaOnHost, SaysThatThereIsNoDriverOrNoDevice) {
  {
    const ScopedMachine machine({.driver_version = 0});
    const absl::Status status = MakeCudaDevice(0).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(MessageOf(status), "no CUDA device: this machine has no NVIDIA driver");
  }
  const ScopedMachine machine({.num_devices = 0});
  const absl::Status status = MakeCudaDevice(0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(MessageOf(status), "no CUDA device: cudaErrorNoDevice");
}

TEST(CudaOnHost, SaysBothVersionsOfADriverThatIsTooOld) {
  const ScopedMachine machine({.driver_version = 12040});
  const absl::Status status = MakeCudaDevice(0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(MessageOf(status),
            "the NVIDIA driver of this machine is for CUDA 12.4, and this program needs 13.0 or "
            "later: install a newer driver");
}

TEST(CudaOnHost, SaysWhatItCannotReserve) {
  const ScopedMachine machine({.memory_bytes = 1 << 20});
  const auto device = *MakeCudaDevice(0);
  const Buffer some = *device->Allocate(1 << 18, MemoryKind::kDevice);
  const absl::Status status = device->Reserve(1 << 20);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(MessageOf(status),
            "cuda:0 stand-in on the host: cannot allocate 1048576 bytes at once: 786432 of 1048576 "
            "are free (cudaErrorMemoryAllocation)");
}

TEST(CudaOnHost, HasRoomForSoManyGraphs) {
  const auto device = *MakeCudaDevice(0);
  const auto stream = device->MakeStream();
  auto& cuda_stream = dynamic_cast<CudaStream&>(*stream);
  const auto capture = [&](size_t num_bytes) {
    const std::vector<std::byte> constants(num_bytes);
    return stream
        ->Capture([&] { cuda_stream.capturing()->Put(constants.data(), constants.size()); })
        .status();
  };
  EXPECT_TRUE(capture(kGraphBytes / 2 + 1).ok());
  const absl::Status status = capture(kGraphBytes / 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_TRUE(capture(kGraphBytes / 4).ok());
}

TEST(CudaOnHost, GivesNothingBeyondWhatItReserved) {
  const auto device = *MakeCudaDevice(0);
  ASSERT_TRUE(device->Reserve(1000).ok());
  const Buffer all = *device->Allocate(1000, MemoryKind::kDevice);
  const absl::Status status = device->Allocate(1, MemoryKind::kDevice).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(MessageOf(status),
            "cuda:0 stand-in on the host: cannot allocate 1 bytes: of 1024 reserved 0 are free");
  EXPECT_TRUE(device->Allocate(1, MemoryKind::kPinnedHost).ok());
}

}  // namespace
}  // namespace orrery
