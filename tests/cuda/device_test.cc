// device/cuda against the contract of a device, on the stand-in.

#include <gtest/gtest.h>

#include "device/cuda/cuda_device.h"
#include "device/device_conformance.h"

namespace orrery {
namespace {

INSTANTIATE_TEST_SUITE_P(CudaOnHost, DeviceConformance,
                         testing::Values(DeviceFactory([] { return MakeCudaDevice(0); })));

TEST(CudaOnHost, SaysWhatItIs) {
  EXPECT_EQ((*MakeCudaDevice(0))->name(), "cuda:0 stand-in on the host");
  EXPECT_EQ(MakeCudaDevice(1).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace orrery
