#include "device/cuda/cuda_device.h"

#include <gtest/gtest.h>

#include "device/device_conformance.h"

namespace orrery {
namespace {

// Skipped, loudly, on a machine without a GPU.
INSTANTIATE_TEST_SUITE_P(Cuda, DeviceConformance,
                         testing::Values(DeviceFactory([] { return MakeCudaDevice(0); })));

TEST(CudaDevice, SaysWhichDeviceIsMissing) {
  EXPECT_EQ(MakeCudaDevice(-1).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(MakeCudaDevice(1000).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace orrery
