#include "tools/bench/counters.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

v1::ClusterStatusResponse Status(int64_t tokens_out, int64_t leaked) {
  v1::ClusterStatusResponse status;
  for (int i = 0; i < 2; ++i) {
    v1::MemberStatus& rank = *status.add_member();
    rank.set_role("attention");
    rank.set_tokens_out(tokens_out);
    rank.set_kv_blocks_leaked(leaked);
    rank.set_running_requests(2);
    rank.set_waiting_requests(1);
  }
  status.add_member()->set_frames(10 * tokens_out);
  return status;
}

TEST(Counters, AreSummedAndCountsBecomeDifferences) {
  const Counters before = CountersOf(Status(100, 1));
  EXPECT_EQ(before.at("tokens_out"), 200);
  const Counters change = CounterChange(before, CountersOf(Status(150, 3)));
  EXPECT_EQ(change.at("tokens_out"), 100);
  EXPECT_EQ(change.at("frames"), 500);
  EXPECT_EQ(change.at("preemptions"), 0);
}

TEST(Counters, GaugesAreThoseOfTheEnd) {
  const Counters change = CounterChange(CountersOf(Status(1, 1)), CountersOf(Status(1, 3)));
  EXPECT_EQ(change.at("kv_blocks_leaked"), 6);
}

TEST(Counters, OpenRequestsRunOrWait) { EXPECT_EQ(NumOpen(Status(1, 0)), 6); }

}  // namespace
}  // namespace orrery
