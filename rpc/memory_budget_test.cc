#include "rpc/memory_budget.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/heap.h"

namespace orrery {
namespace {

constexpr char kCluster[] = R"pb(
  router { name: "router-0" address: "h1:7400" }
  attention { name: "attention-0" address: "h1:7410" memory_bytes: 3000000000 }
  attention { name: "attention-1" address: "h1:7411" }
  expert { name: "expert-0" address: "[::1]:7420" }
  model { name: "m" dir: "/m" }
  allow_plain_text: true
)pb";

class Budget : public testing::Test {
 protected:
  Budget() : root_(testing::TempDir() + "/memory_budget") {
    std::filesystem::remove_all(root_);
    Write("/proc/meminfo", "MemTotal: 12000000 kB\n");
  }
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  MemoryBudget Of(internal::Role role, const std::string& name) {
    return MemoryBudgetOf(cluster_, **FindMember(cluster_, role, name), root_);
  }

  const internal::ClusterFile cluster_ = *ParseClusterFile(kCluster, "cluster.txtpb");
  const std::string root_;
};

TEST_F(Budget, IsWhatTheClusterFileSaysFirst) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "1000000000\n");
  const MemoryBudget budget = Of(internal::ROLE_ATTENTION, "attention-0");
  EXPECT_EQ(budget.bytes, 3'000'000'000u);
  EXPECT_EQ(budget.source, "its memory_bytes in the cluster file");
}

TEST_F(Budget, IsThenTheLimitOfTheControlGroup) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "1000000000\n");
  EXPECT_EQ(Of(internal::ROLE_ATTENTION, "attention-1").bytes, 1'000'000'000u);
}

TEST_F(Budget, IsThenAShareOfTheMachine) {
  const MemoryBudget shared = Of(internal::ROLE_ROUTER, "router-0");
  EXPECT_EQ(shared.bytes, size_t{4'000'000} * 1024);
  EXPECT_NE(shared.source.find("over the 3 members on it"), std::string::npos) << shared.source;
  EXPECT_EQ(Of(internal::ROLE_EXPERT, "expert-0").bytes, size_t{12'000'000} * 1024);
}

// Whatever is left for requests, what they take and what the heap keeps of it fits.
TEST_F(Budget, LeavesForRequestsWhatFitsWithAllThatTheyCause) {
  MemoryNeed fixed;
  fixed.Add({.name = "weights", .bytes = 300'000'000});
  fixed.Add({.name = "buffers", .bytes = 40'000'000});
  for (const size_t budget : {100'000'000u, 400'000'000u, 500'000'000u, 2'000'000'000u}) {
    const size_t left = LeftForRequests({.bytes = budget, .source = ""}, fixed, 40'000'000);
    MemoryNeed need = fixed;
    need.Add({.name = "requests", .bytes = left});
    AddProcess(40'000'000 + left, need);
    if (left > 0) {
      EXPECT_LE(need.total(), budget);
    }
    EXPECT_EQ(left > 0, budget > 450'000'000u) << left;
  }
}

}  // namespace
}  // namespace orrery
