#include "tools/bench/kernels/machine/machine_facts.h"

#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"

namespace orrery {
namespace {

void Write(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

TEST(MachineFacts, ComeFromTheSystemsFiles) {
  const std::string root = testing::TempDir() + "/machine/";
  Write(root + "proc/cpuinfo", "processor\t: 0\nmodel name\t: Some Processor 9\n");
  Write(root + "proc/meminfo", "MemTotal:       24000000 kB\nMemAvailable:   22000000 kB\n");
  Write(root + "proc/loadavg", "7.25 8.51 7.72 4/321 9999\n");
  const std::string caches = root + "sys/devices/system/cpu/cpu0/cache/";
  const char* const kCaches[][2] = {{"1", "32K"}, {"1", "48K"}, {"2", "1024K"}, {"3", "480M"}};
  for (int i = 0; i < 4; ++i) {
    Write(caches + "index" + std::to_string(i) + "/level", std::string(kCaches[i][0]) + "\n");
    Write(caches + "index" + std::to_string(i) + "/size", std::string(kCaches[i][1]) + "\n");
  }
  const MachineFacts facts = ReadMachineFacts(root);
  EXPECT_EQ(facts.processor, "Some Processor 9");
  EXPECT_GE(facts.num_cores, 1);
  EXPECT_EQ(facts.last_level_cache_bytes, int64_t{480} << 20);
  EXPECT_EQ(facts.available_memory_bytes, int64_t{22000000} * 1024);
  EXPECT_EQ(facts.load_average, 7.25);
}

TEST(MachineFacts, AreUnknownWhereTheSystemDoesNotSay) {
  const MachineFacts facts = ReadMachineFacts(testing::TempDir() + "/nowhere/");
  EXPECT_EQ(facts.processor, "");
  EXPECT_EQ(facts.last_level_cache_bytes, 0);
  EXPECT_EQ(facts.available_memory_bytes, 0);
}

TEST(MachineFacts, ACacheSizeHasAUnit) {
  EXPECT_EQ(ParseCacheSize("32768K"), int64_t{32} << 20);
  EXPECT_EQ(ParseCacheSize("480M"), int64_t{480} << 20);
  EXPECT_EQ(ParseCacheSize("512"), 512);
  for (const char* text : {"", "K", "M32", "-1K", "99999999999999M"}) {
    EXPECT_EQ(ParseCacheSize(text), std::nullopt) << text;
  }
}

TEST(WorkingSet, IsThreeTimesTheCacheUnlessSomethingElseIsAskedFor) {
  MachineFacts facts;
  facts.last_level_cache_bytes = 100 << 20;
  facts.available_memory_bytes = int64_t{64} << 30;
  EXPECT_EQ(WorkingSetBytes(0, facts), 300 << 20);
  EXPECT_EQ(WorkingSetBytes(5000, facts), 5000);
}

TEST(WorkingSet, LeavesRoomForThePeerAndIsNotTiny) {
  EXPECT_EQ(WorkingSetBytes(0, {}), 64 << 20);
  MachineFacts small;
  small.available_memory_bytes = int64_t{8} << 30;
  EXPECT_EQ(WorkingSetBytes(int64_t{1} << 40, small), int64_t{1} << 30);
}

}  // namespace
}  // namespace orrery
