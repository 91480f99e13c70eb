#include "tools/launch/topology.h"

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rpc/cluster_file.h"

namespace orrery {
namespace {

TEST(Topology, BecomesAClusterFileThatIsAccepted) {
  Topology topology;
  topology.model_dir = ::testing::TempDir();
  topology.model_name = "m";
  topology.num_ranks = 2;
  topology.num_shards = 5;
  topology.num_spare_shards = 1;
  topology.gpus = {3, 1};
  topology.numerics.set_precision(internal::PRECISION_F32);
  const auto cluster = MakeLocalCluster(topology);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  const std::string path = absl::StrCat(::testing::TempDir(), "/topology.txtpb");
  ASSERT_TRUE(WriteClusterFile(*cluster, path).ok());
  const auto read = ReadClusterFile(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->attention_size(), 2);
  EXPECT_EQ(read->expert(4).name(), "expert-4");
  EXPECT_EQ(SpareShards(*read), (std::vector<bool>{false, false, false, false, false, true}));
  EXPECT_EQ(read->attention(1).gpu(), 1);
  EXPECT_EQ(read->expert(0).gpu(), 3);
  EXPECT_EQ(read->numerics().row_format(), internal::ROW_FORMAT_F32);
  for (const auto& [role, member] : AllMembers(*read)) {
    EXPECT_TRUE(IsOnThisMachine(member->address())) << member->address();
  }
}

TEST(Topology, RefusesWhatCannotBe) {
  Topology topology;
  topology.model_dir = "/nowhere";
  EXPECT_EQ(MakeLocalCluster(topology).status().code(), absl::StatusCode::kNotFound);
  topology.num_ranks = 0;
  EXPECT_EQ(MakeLocalCluster(topology).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PickFreePorts, AreDistinctAndBelowTheKernelsRange) {
  const auto ports = PickFreePorts(200);
  ASSERT_TRUE(ports.ok()) << ports.status();
  EXPECT_EQ(std::set<int>(ports->begin(), ports->end()).size(), 200);
  EXPECT_GE(*std::min_element(ports->begin(), ports->end()), 10000);
  EXPECT_LE(*std::max_element(ports->begin(), ports->end()), 32000);
}

TEST(IsOnThisMachine, KnowsForeignAddresses) {
  EXPECT_TRUE(IsOnThisMachine("localhost:1"));
  EXPECT_FALSE(IsOnThisMachine("192.0.2.7:7400"));  // RFC 5737: nobody's
  EXPECT_FALSE(IsOnThisMachine("no address"));
}

}  // namespace
}  // namespace orrery
