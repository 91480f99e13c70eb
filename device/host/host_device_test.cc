#include "device/host/host_device.h"

#include <gtest/gtest.h>

#include <string>

#include "device/device_conformance.h"

namespace orrery {
namespace {

INSTANTIATE_TEST_SUITE_P(Host, DeviceConformance,
                         testing::Values(DeviceFactory([] { return MakeHostDevice(); })));

TEST(HostDevice, NamesTheBytesItCannotGive) {
  const absl::Status status =
      MakeHostDevice()->Allocate(size_t{1} << 60, MemoryKind::kDevice).status();
  EXPECT_NE(std::string(status.message()).find("1152921504606846976 bytes"), std::string::npos)
      << status;
}

}  // namespace
}  // namespace orrery
