#include "services/router/resume_token.h"

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

internal::SequenceRequest Sequence() {
  internal::SequenceRequest sequence;
  sequence.set_request_id("router-0-5f3a-7");
  sequence.add_prompt_ids(7);
  sequence.set_tenant("a");
  sequence.mutable_sampling()->set_seed(77);
  for (int id = 0; id < 100; ++id) (*sequence.mutable_sampling()->mutable_logit_bias())[id] = 1.0f;
  return sequence;
}

ModelIdentity Model() {
  return {.fingerprint = {.config_hash = "c0", .files = {{"a.safetensors", "w0"}}},
          .numerics_id = "x86-1 bf16"};
}

std::string KeyFile(const std::string& key) {
  static int num_files = 0;
  const std::string path = absl::StrCat(::testing::TempDir(), "/key-", num_files++);
  std::ofstream(path, std::ios::binary) << key;
  return path;
}

TEST(ResumeTokens, TellEveryRouterWithTheKeyWhatTheyWereMadeOf) {
  const std::string path = KeyFile(std::string(32, 'k'));
  const std::string token = ResumeTokens::WithKeyFile(path)->Make(Sequence(), Model());
  const auto other = ResumeTokens::WithKeyFile(path);
  ASSERT_TRUE(other.ok()) << other.status();
  const auto point = other->Read(token);
  ASSERT_TRUE(point.ok()) << point.status();
  EXPECT_EQ(point->request_id, "router-0-5f3a-7");
  EXPECT_EQ(point->seed, 77u);
  EXPECT_TRUE(point->model.CheckSame(Model()).ok());
  internal::SequenceRequest again = Sequence();
  again.add_so_far()->add_id(3);
  again.set_attempt(9);
  EXPECT_TRUE(other->CheckRequest(*point, again).ok());
}

TEST(ResumeTokens, BindRequestTenantAndSeed) {
  const ResumeTokens tokens = ResumeTokens::WithRandomKey();
  const auto point = tokens.Read(tokens.Make(Sequence(), Model()));
  ASSERT_TRUE(point.ok()) << point.status();
  internal::SequenceRequest other = Sequence();
  other.set_tenant("b");
  EXPECT_EQ(tokens.CheckRequest(*point, other).code(), absl::StatusCode::kInvalidArgument);
  other = Sequence();
  other.mutable_sampling()->set_seed(78);
  EXPECT_EQ(tokens.CheckRequest(*point, other).code(), absl::StatusCode::kInvalidArgument);
  other = Sequence();
  other.add_prompt_ids(8);
  EXPECT_EQ(tokens.CheckRequest(*point, other).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ResumeTokens, ThatWereChangedOrSignedByOthersAreNotRead) {
  const ResumeTokens tokens = ResumeTokens::WithRandomKey();
  const std::string token = tokens.Make(Sequence(), Model());
  for (size_t i = 0; i < token.size(); ++i) {
    std::string changed = token;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_EQ(tokens.Read(changed).status().code(), absl::StatusCode::kFailedPrecondition) << i;
    EXPECT_FALSE(tokens.Read(token.substr(0, i)).ok()) << i;
  }
  const absl::Status foreign = ResumeTokens::WithRandomKey().Read(token).status();
  EXPECT_EQ(foreign.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(foreign.message()), HasSubstr("another key"));
}

TEST(ResumeTokens, SayWhatIsWrongWithAKeyFile) {
  const absl::Status missing = ResumeTokens::WithKeyFile("/nowhere/key").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("/nowhere/key"));
  for (const int size : {0, 31, 4097}) {
    const absl::Status wrong = ResumeTokens::WithKeyFile(KeyFile(std::string(size, 'k'))).status();
    EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_THAT(std::string(wrong.message()), HasSubstr("32 to 4096")) << size;
  }
}

}  // namespace
}  // namespace orrery
