#include "base/processors.h"

#include <sched.h>

#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(CpuList, ReadsNumbersAndRanges) {
  EXPECT_THAT(*ParseCpuList(""), IsEmpty());
  EXPECT_THAT(*ParseCpuList("3"), ElementsAre(3));
  EXPECT_THAT(*ParseCpuList("2-4,0,3"), ElementsAre(0, 2, 3, 4));
  EXPECT_THAT(*ParseCpuList("4095"), ElementsAre(4095));
}

TEST(CpuList, RefusesWhatIsNone) {
  for (const char* text :
       {",", "1,", "a", "-1", "1-", "3-2", "1-2-3", "4096", " 1", "0x1", "99999999999"}) {
    const auto cpus = ParseCpuList(text);
    EXPECT_EQ(cpus.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(cpus.status().message()), HasSubstr("\"" + std::string(text) + "\""));
  }
}

TEST(Processors, ThereIsAtLeastOne) { EXPECT_GE(NumUsableProcessors(), 1); }

TEST(Processors, AThreadKeepsToWhatItWasGiven) {
  std::thread([] {
    const int here = sched_getcpu();
    ASSERT_TRUE(KeepToProcessors({here}).ok());
    EXPECT_EQ(sched_getcpu(), here);
    EXPECT_EQ(NumUsableProcessors(), 1);
    std::thread([here] { EXPECT_EQ(sched_getcpu(), here); }).join();
  }).join();
}

TEST(Processors, OneThatDoesNotExistIsRefusedWithThoseThatDo) {
  const absl::Status status = KeepToProcessors({4095});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("processor 4095"));
  EXPECT_TRUE(KeepToProcessors({}).ok());
}

}  // namespace
}  // namespace orrery
