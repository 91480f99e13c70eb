#include "services/attention/shard_watch.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/identity/fingerprint_proto.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const char kNumericsId[] = "x86-1 ffn=stored act=bf16 kv=bf16 rows=bf16/bf16 cell=1";

Fingerprint OurFingerprint() {
  return {.config_hash = "c0", .files = {{"a.safetensors", "a0"}, {"b.safetensors", "b0"}}};
}

internal::MemberDescription GoodShard() {
  internal::MemberDescription shard;
  shard.set_name("expert-3");
  shard.set_role(internal::ROLE_EXPERT);
  shard.set_state(internal::MEMBER_STATE_READY);
  shard.set_numerics_id(kNumericsId);
  *shard.mutable_fingerprint() = ToProto(OurFingerprint());
  return shard;
}

absl::Status Check(const internal::MemberDescription& shard) {
  return CheckShard(shard, OurFingerprint(), kNumericsId);
}

TEST(CheckShard, TakesAShardOfOurModelWithOurNumbers) {
  EXPECT_TRUE(Check(GoodShard()).ok()) << Check(GoodShard());
}

TEST(CheckShard, TakesAShardThatIsDraining) {
  internal::MemberDescription shard = GoodShard();
  shard.set_state(internal::MEMBER_STATE_DRAINING);
  EXPECT_TRUE(Check(shard).ok()) << Check(shard);
}

// A shard that was given only some of the files proves what it has.
TEST(CheckShard, TakesAShardThatKnowsOnlySomeFiles) {
  internal::MemberDescription shard = GoodShard();
  shard.mutable_fingerprint()->mutable_files()->erase("a.safetensors");
  EXPECT_TRUE(Check(shard).ok()) << Check(shard);
}

TEST(CheckShard, RefusesAMemberOfAnotherRoleByName) {
  internal::MemberDescription member = GoodShard();
  member.set_role(internal::ROLE_ATTENTION);
  member.set_name("attention-1");
  const absl::Status status = Check(member);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("attention-1, which is no expert shard"));
}

TEST(CheckShard, WaitsForAShardThatIsNotReady) {
  for (const auto state : {internal::MEMBER_STATE_UNSPECIFIED, internal::MEMBER_STATE_LOADING,
                           internal::MEMBER_STATE_WAITING, internal::MEMBER_STATE_STOPPING}) {
    internal::MemberDescription shard = GoodShard();
    shard.set_state(state);
    EXPECT_EQ(Check(shard).code(), absl::StatusCode::kUnavailable) << state;
  }
}

TEST(CheckShard, TellsTheProblemOfAShardThatIsNotReady) {
  internal::MemberDescription shard = GoodShard();
  shard.set_state(internal::MEMBER_STATE_WAITING);
  shard.add_problems("b.safetensors is truncated");
  EXPECT_EQ(std::string(Check(shard).message()), "b.safetensors is truncated");
}

TEST(CheckShard, RefusesOtherNumbersWithBothIds) {
  internal::MemberDescription shard = GoodShard();
  shard.set_numerics_id("reference-1 act=f32");
  const absl::Status status = Check(shard);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("\"reference-1 act=f32\""), HasSubstr(kNumericsId)));
}

TEST(CheckShard, RefusesOtherWeightsWithTheFileAndBothHashes) {
  internal::MemberDescription shard = GoodShard();
  (*shard.mutable_fingerprint()->mutable_files())["b.safetensors"] = "b1";
  const absl::Status status = Check(shard);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("b.safetensors"), HasSubstr("b0"), HasSubstr("b1")));
}

TEST(CheckShard, RefusesAnotherConfigurationWithBothHashes) {
  internal::MemberDescription shard = GoodShard();
  shard.mutable_fingerprint()->set_config_hash("c1");
  const absl::Status status = Check(shard);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("c0"), HasSubstr("c1")));
}

TEST(ShardWatch, WithoutShardsItSaysWhichExpertsHaveNoHolder) {
  ModelConfig config;
  config.num_layers = 3;
  config.layer_is_moe = {false, true, true};
  config.num_experts = 4;
  ExpertDirectory directory(config, {}, /*with_mtp=*/false);
  ShardWatch watch({}, &directory);
  const absl::Status ready = watch.Ready();
  EXPECT_EQ(ready.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(ready.message()), HasSubstr("experts 0-3 have no holder"));
  EXPECT_TRUE(watch.Peers().empty());
  watch.Stop();
  watch.Stop();
}

}  // namespace
}  // namespace orrery
