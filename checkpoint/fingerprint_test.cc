#include "checkpoint/fingerprint.h"

#include "checkpoint/checkpoint.h"
#include "checkpoint/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using testing::HasSubstr;

std::string Hash(std::string_view text) {
  return ContentHash({reinterpret_cast<const std::byte*>(text.data()), text.size()});
}

// From the specification's sanity values: XXH3_128bits of nothing, seed 0.
TEST(ContentHash, IsXxh3128InHex) {
  EXPECT_EQ(Hash(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_NE(Hash("a"), Hash("b"));
}

TEST(Fingerprint, MatchesWhenEveryCommonFileDoes) {
  const Fingerprint rank{"c", {{"1", "x"}, {"2", "y"}}};
  EXPECT_TRUE(CheckSameModel(rank, rank).ok());
  EXPECT_TRUE(CheckSameModel(rank, {"c", {{"2", "y"}, {"3", "z"}}}).ok());
  EXPECT_TRUE(CheckSameModel(rank, {"c", {}}).ok());
}

TEST(Fingerprint, NamesWhatDiffersWithBothValues) {
  const Fingerprint ours{"c", {{"1", "x"}, {"2", "y"}}};
  const absl::Status file = CheckSameModel(ours, {"c", {{"2", "other"}}});
  EXPECT_EQ(file.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(file.message()),
              testing::AllOf(HasSubstr("our 2"), HasSubstr("hash y"), HasSubstr("other")));
  const absl::Status config = CheckSameModel(ours, {"d", ours.files});
  EXPECT_THAT(std::string(config.message()),
              testing::AllOf(HasSubstr("config.json"), HasSubstr("hash c"), HasSubstr("theirs d")));
}

TEST(Fingerprint, MergesWhatOthersKnow) {
  Fingerprint ours{"", {{"1", "x"}}};
  MergeFingerprint({"c", {{"2", "y"}}}, ours);
  EXPECT_EQ(ours.config_hash, "c");
  EXPECT_EQ(ours.files.size(), 2u);
}

TEST(Fingerprint, ReadsWellInMessages) {
  EXPECT_EQ((Fingerprint{"0123456789", {}}.ToString()), "config 01234567..., no weights");
  EXPECT_EQ((Fingerprint{"0123456789", {{"a", "fedcba9876"}, {"b", ""}, {"c", ""}}}.ToString()),
            "config 01234567..., a fedcba98... (+2 files)");
}

// V3 and R1 in small: the same shapes, other weights.
TEST(Fingerprint, TellsModelsOfEqualShapesApart) {
  const std::string header = R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})";
  Fingerprint prints[2];
  for (int i = 0; i < 2; ++i) {
    const std::string dir = MakeTempDir();
    WriteTempFile(dir, "config.json", "{}");
    WriteTempFile(dir, "model.safetensors", SafetensorsBytes(header, BytesOf<float>({1.0f + i})));
    const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const absl::StatusOr<Fingerprint> print =
        checkpoint->ComputeFingerprint(FingerprintScope::kOpenedFiles);
    ASSERT_TRUE(print.ok()) << print.status();
    prints[i] = *print;
  }
  EXPECT_EQ(prints[0].config_hash, prints[1].config_hash);
  EXPECT_EQ(CheckSameModel(prints[0], prints[1]).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(Fingerprint, CoversTheFilesThatWereOpened) {
  const std::string dir = GoldenDir("fp8_w128");
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->ComputeFingerprint(FingerprintScope::kOpenedFiles)->files.empty());
  ASSERT_TRUE(checkpoint->Tensor("model.embed_tokens.weight", {257, 256}).ok());
  const absl::StatusOr<Fingerprint> print =
      checkpoint->ComputeFingerprint(FingerprintScope::kOpenedFiles);
  ASSERT_EQ(print->files.size(), 1u);
  const auto& [name, hash] = *print->files.begin();
  EXPECT_EQ(hash, Hash(ReadTextFile(dir + "/" + name)));
  EXPECT_EQ(print->config_hash, Hash(ReadTextFile(dir + "/config.json")));
}

// What a rank asks for: it then knows the files of the shards too, but lacks nothing if some are not there.
TEST(Fingerprint, CoversEveryFileThatIsPresentWhenAsked) {
  const std::string golden = GoldenDir("fp8_w128");
  const std::string dir = MakeTempDir();
  for (const std::string name :
       {"config.json", "model.safetensors.index.json", "model-00001-of-000003.safetensors",
        "model-00003-of-000003.safetensors"}) {
    WriteTempFile(dir, name, ReadTextFile(golden + "/" + name));
  }
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const absl::StatusOr<Fingerprint> print =
      checkpoint->ComputeFingerprint(FingerprintScope::kPresentFiles);
  ASSERT_TRUE(print.ok()) << print.status();
  ASSERT_EQ(print->files.size(), 2u);
  for (const auto& [name, hash] : print->files) {
    EXPECT_EQ(hash, Hash(ReadTextFile(golden + "/" + name))) << name;
  }
}

}  // namespace
}  // namespace orrery
