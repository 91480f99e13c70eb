#include "base/memory_limit.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace orrery {
namespace {

// A machine made of files.
class MemoryLimit : public testing::Test {
 protected:
  MemoryLimit() {
    root_ = testing::TempDir() + "/memory_limit_" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
  }
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  std::string root_;
};

TEST_F(MemoryLimit, IsTheLeastOfTheGroupAndThoseAboveIt) {
  Write("/proc/self/cgroup", "0::/system.slice/orrery.service\n");
  Write("/sys/fs/cgroup/system.slice/orrery.service/memory.max", "3000000000\n");
  EXPECT_EQ(ControlGroupMemory(root_), 3'000'000'000);
  Write("/sys/fs/cgroup/system.slice/memory.max", "2000000000\n");
  EXPECT_EQ(ControlGroupMemory(root_), 2'000'000'000);
  Write("/sys/fs/cgroup/system.slice/memory.max", "max\n");
  EXPECT_EQ(ControlGroupMemory(root_), 3'000'000'000);
}

// It sees its own group as the root, whether or not it also sees its path outside.
TEST_F(MemoryLimit, IsThatOfTheContainer) {
  Write("/sys/fs/cgroup/memory.max", "512000000\n");
  for (const char* path : {"0::/\n", "0::/../../pod7\n", "0::/kubepods/pod7/c1\n"}) {
    Write("/proc/self/cgroup", path);
    EXPECT_EQ(ControlGroupMemory(root_), 512'000'000) << path;
  }
}

TEST_F(MemoryLimit, IsReadOfVersionOneToo) {
  Write("/proc/self/cgroup", "12:cpu,cpuacct:/a\n9:memory:/a/b\n0::/a\n");
  Write("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(ControlGroupMemory(root_), std::nullopt);
  Write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1000000000\n");
  EXPECT_EQ(ControlGroupMemory(root_), 1'000'000'000);
}

TEST_F(MemoryLimit, IsNoneWhereNothingSaysSo) {
  EXPECT_EQ(ControlGroupMemory(root_), std::nullopt);
  Write("/proc/self/cgroup", "nonsense\n0::/gone\n");
  EXPECT_EQ(ControlGroupMemory(root_), std::nullopt);
  EXPECT_EQ(MachineMemory(root_), 0);
}

TEST_F(MemoryLimit, OfTheMachine) {
  Write("/proc/meminfo", "MemTotal:       24684052 kB\nMemFree: 1 kB\n");
  EXPECT_EQ(MachineMemory(root_), int64_t{24'684'052} * 1024);
  EXPECT_GT(MachineMemory(), 0);
}

}  // namespace
}  // namespace orrery
