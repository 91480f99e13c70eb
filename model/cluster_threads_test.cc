#include "model/cluster_threads.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

internal::ClusterFile FourMembers() {
  internal::ClusterFile cluster;
  cluster.add_router()->set_address("a:1");
  cluster.add_attention()->set_address("a:2");
  cluster.add_expert()->set_address("a:3");
  cluster.add_expert()->set_address("a:4");
  cluster.add_expert()->set_address("b:4");
  return cluster;
}

TEST(ClusterThreads, ProcessorsAreSharedByTheComputingMembersOfAHost) {
  const internal::ClusterFile cluster = FourMembers();
  const auto num_threads = [&](const internal::ClusterMember& member, int num_processors) {
    const auto threads = ThreadsFromProto(cluster, member, num_processors);
    EXPECT_TRUE(threads.ok()) << threads.status();
    EXPECT_THAT(threads->cpus, IsEmpty());
    return threads->num_threads;
  };
  EXPECT_EQ(num_threads(cluster.attention(0), 16), 5);
  EXPECT_EQ(num_threads(cluster.expert(1), 16), 5);
  EXPECT_EQ(num_threads(cluster.expert(2), 16), 16);
  EXPECT_EQ(num_threads(cluster.expert(0), 2), 1);
}

TEST(ClusterThreads, WhatTheFileSaysIsTaken) {
  internal::ClusterFile cluster = FourMembers();
  internal::ClusterMember& member = *cluster.mutable_expert(0);
  member.set_num_threads(3);
  EXPECT_EQ(ThreadsFromProto(cluster, member, 16)->num_threads, 3);
  member.set_cpus("4-7");
  EXPECT_EQ(ThreadsFromProto(cluster, member, 16)->num_threads, 3);
  EXPECT_THAT(ThreadsFromProto(cluster, member, 16)->cpus, ElementsAre(4, 5, 6, 7));
  member.clear_num_threads();
  EXPECT_EQ(ThreadsFromProto(cluster, member, 16)->num_threads, 4);
  member.set_cpus("x");
  EXPECT_EQ(ThreadsFromProto(cluster, member, 16).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace orrery
