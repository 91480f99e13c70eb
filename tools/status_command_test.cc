#include "tools/status_command.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class StatusTableTest : public ::testing::Test {
 protected:
  v1::MemberStatus& Add(const std::string& name, const std::string& role) {
    v1::MemberStatus& member = *status_.add_member();
    member.set_name(name);
    member.set_role(role);
    member.set_state("ready");
    return member;
  }
  v1::ClusterStatusResponse status_;
};

TEST_F(StatusTableTest, LeavesOutCountersThatSayNothing) {
  v1::MemberStatus& rank = Add("attention-0", "attention");
  rank.set_kv_blocks_total(1024);
  rank.set_prefix_miss_tokens(9);
  EXPECT_THAT(StatusTable(status_), HasSubstr("0 running, 0 waiting, kv 0/1024, 0 in, 0 out\n"));
}

TEST_F(StatusTableTest, SaysWhatCarriesRowsToTheShards) {
  v1::MemberStatus& rank = Add("attention-0", "attention");
  for (int i = 0; i < 3; ++i) {
    v1::ExchangeLink& link = *rank.add_exchange_link();
    link.set_shard("expert-" + std::to_string(i));
    link.set_exchange(i == 1 ? "grpc" : "shm");
  }
  EXPECT_THAT(StatusTable(status_), HasSubstr("0 out, grpc to expert-1, shm to 2 shards\n"));
}

TEST_F(StatusTableTest, SaysThatWhatGoesBetweenGpusIsNotEncrypted) {
  v1::MemberStatus& rank = Add("attention-0", "attention");
  for (const char* exchange : {"nccl", "cuda_ipc"}) {
    v1::ExchangeLink& link = *rank.add_exchange_link();
    link.set_shard(exchange == std::string("nccl") ? "expert-0" : "expert-1");
    link.set_exchange(exchange);
  }
  EXPECT_THAT(
      StatusTable(status_),
      HasSubstr(", cuda_ipc to expert-1 (not encrypted), nccl to expert-0 (not encrypted)\n"));
}

TEST_F(StatusTableTest, SaysWhyRowsDoNotGoTheWayTheyWereMeantTo) {
  v1::ExchangeLink& link = *Add("attention-0", "attention").add_exchange_link();
  link.set_shard("expert-0");
  link.set_exchange("grpc");
  link.set_problem("this rank has nccl 2.28.9, the shard nothing of the kind");
  EXPECT_THAT(StatusTable(status_),
              HasSubstr("    ! grpc to expert-0: this rank has nccl 2.28.9, the shard nothing of "
                        "the kind\n"));
}

TEST_F(StatusTableTest, ShowsWhatARankSavedAndWhatItSetBack) {
  v1::MemberStatus& rank = Add("attention-0", "attention");
  rank.set_running_requests(2);
  rank.set_waiting_requests(3);
  rank.set_kv_blocks_used(10);
  rank.set_kv_blocks_total(1024);
  rank.set_kv_blocks_cached(300);
  rank.set_tokens_in(123);
  rank.set_tokens_out(456);
  rank.set_prefix_hit_tokens(45);
  rank.set_prefix_miss_tokens(55);
  rank.set_drafted_tokens(200);
  rank.set_accepted_draft_tokens(142);
  rank.set_preemptions(4);
  EXPECT_THAT(StatusTable(status_),
              HasSubstr("2 running, 3 waiting, kv 10/1024 + 300 cached, 123 in, 456 out, "
                        "45% prefix hits, 71% drafts right, 4 preempted\n"));
  EXPECT_THAT(StatusTable(status_), Not(HasSubstr("leaked")));
}

TEST_F(StatusTableTest, ShowsWhatAMemberNeedsOfWhatItMayTake) {
  v1::MemberStatus& router = Add("router-0", "router");
  router.set_needed_bytes(312'000'000);
  router.set_budget_bytes(2'000'000'000);
  EXPECT_THAT(StatusTable(status_), HasSubstr("0 open, memory 0.31 of 2.0 GB\n"));
}

TEST_F(StatusTableTest, ShowsWhoRetires) {
  Add("attention-9", "attention").set_retiring(true);
  v1::MemberStatus& gone = Add("attention-8", "attention");
  gone.set_retiring(true);
  gone.set_state("unreachable");
  EXPECT_THAT(StatusTable(status_), HasSubstr(" retiring, 0 running, 0 waiting"));
  EXPECT_THAT(StatusTable(status_), HasSubstr(" retiring\n"));
}

TEST_F(StatusTableTest, CallsALeakWhatItIs) {
  Add("attention-0", "attention").set_kv_blocks_leaked(3);
  EXPECT_THAT(StatusTable(status_), HasSubstr("! 3 leaked KV blocks"));
}

TEST_F(StatusTableTest, ASpareThatIsNotThereIsNoProblem) {
  Add("expert-4", "expert").set_state("absent");
  EXPECT_THAT(StatusTable(status_), ::testing::ContainsRegex("expert-4 +absent +spare\n"));
  EXPECT_THAT(StatusTable(status_), Not(HasSubstr("imbalance")));
}

TEST_F(StatusTableTest, SaysHowEvenlyShardsAreUsedAndWhyCopiesMoved) {
  v1::Balance& balance = *status_.mutable_balance();
  balance.set_router("router-0");
  balance.set_imbalance(1.314);
  EXPECT_THAT(StatusTable(status_), HasSubstr("imbalance: 1.31, fullest by mean shard\n"));
  balance.set_num_moves(2);
  balance.set_before(1.84);
  balance.set_after(1.27);
  balance.set_reason("in layer 3 expert-1 had 2.10 times the mean rows");
  EXPECT_THAT(StatusTable(status_),
              HasSubstr("shard; router-0 moved copies 2 times, last for 1.84 -> 1.27: in layer 3 "
                        "expert-1 had 2.10 times the mean rows\n"));
}

TEST_F(StatusTableTest, ShowsHowManyFramesAShardComputesAtOnce) {
  v1::MemberStatus& shard = Add("expert-0", "expert");
  shard.set_num_held_experts(64);
  shard.set_loaded_bytes(3'210'000);
  EXPECT_THAT(StatusTable(status_), HasSubstr("64 experts, 3.2 MB\n"));
  shard.set_frames(7);
  shard.set_frame_groups(4);
  EXPECT_THAT(StatusTable(status_), HasSubstr("64 experts, 3.2 MB, 1.75 frames per group\n"));
}

}  // namespace
}  // namespace orrery
