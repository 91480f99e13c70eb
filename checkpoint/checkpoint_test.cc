#include "checkpoint/checkpoint.h"

#include <filesystem>
#include <limits>
#include <thread>

#include "absl/strings/str_cat.h"
#include "checkpoint/model_config.h"
#include "checkpoint/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

// A checkpoint of two shards: a and b in the first, c in the second.
std::string MakeSharded(float a_value) {
  const std::string dir = MakeTempDir();
  WriteTempFile(dir, "one.safetensors",
                SafetensorsBytes(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                                     "b": {"dtype": "I32", "shape": [1], "data_offsets": [8, 12]}})",
                                 BytesOf<float>({1.0f, a_value, 0.0f})));
  WriteTempFile(
      dir, "two.safetensors",
      SafetensorsBytes(R"({"c": {"dtype": "F8_E4M3", "shape": [2, 1], "data_offsets": [0, 2]}})",
                       "ab"));
  WriteTempFile(
      dir, "model.safetensors.index.json",
      R"({"metadata": {"total_size": 14}, "weight_map": {"a": "one.safetensors", "b": "one.safetensors",
                    "c": "two.safetensors", "lost": "two.safetensors"}})");
  return dir;
}

TEST(Checkpoint, GivesEveryTensorOfTheGoldenModels) {
  for (const std::string& model : GoldenModels()) {
    const std::string dir = GoldenDir(model);
    const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    for (const auto& entry : std::filesystem::directory_iterator(dir)) {
      if (entry.path().extension() != ".safetensors") continue;
      const auto file = SafetensorsFile::Open(entry.path());
      ASSERT_TRUE(file.ok()) << file.status();
      for (const auto& [name, tensor] : (*file)->tensors()) {
        EXPECT_TRUE(checkpoint->Has(name));
        const absl::StatusOr<TensorView> found = checkpoint->Tensor(name, tensor.shape);
        ASSERT_TRUE(found.ok()) << found.status();
        EXPECT_EQ(std::memcmp(found->data, tensor.data, tensor.num_bytes), 0) << name;
      }
    }
  }
}

TEST(Checkpoint, OpensTheBundledModel) {
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(kAbacusDir);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->Tensor("model.layers.4.mlp.experts.15.down_proj.weight", {192, 64}).ok());
  EXPECT_FALSE(checkpoint->Has("model.layers.4.mlp.experts.16.down_proj.weight"));
}

TEST(Checkpoint, StartsFromADirectoryWithoutTheOtherFiles) {
  const std::string dir = MakeSharded(2.0f);
  std::filesystem::remove(dir + "/one.safetensors");
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->Tensor("c", {2, 1}).ok());
  EXPECT_TRUE(checkpoint->Has("a"));
  const absl::Status status = checkpoint->Tensor("a", {2}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("tensor a"), HasSubstr("one.safetensors")));
}

TEST(Checkpoint, NamesWhatItCannotGive) {
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(MakeSharded(2.0f));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->Tensor("a", {2}).ok());

  const absl::Status unknown = checkpoint->Tensor("d", {2}).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(MessageOf(unknown), HasSubstr("tensor d"));

  const absl::Status lost = checkpoint->Tensor("lost", {2}).status();
  EXPECT_EQ(lost.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(MessageOf(lost), AllOf(HasSubstr("tensor lost"), HasSubstr("two.safetensors")));

  const absl::Status shape = checkpoint->Tensor("a", {1, 2}).status();
  EXPECT_EQ(shape.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(shape),
              AllOf(HasSubstr("tensor a"), HasSubstr("[2]"), HasSubstr("[1, 2]")));

  const absl::Status dtype = checkpoint->Tensor("b", {1}).status();
  EXPECT_EQ(dtype.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(dtype), AllOf(HasSubstr("tensor b"), HasSubstr("I32")));
}

TEST(Checkpoint, RefusesWeightsThatAreNotNumbers) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(MakeSharded(bad));
    const absl::Status status = checkpoint->Tensor("a", {2}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(MessageOf(status),
                AllOf(HasSubstr("tensor a"), HasSubstr("value 1"), HasSubstr("one.safetensors")));
  }
}

TEST(Checkpoint, ReportsDamageOfAShardWithTheTensorThatNeededIt) {
  const std::string dir = MakeSharded(2.0f);
  WriteTempFile(dir, "two.safetensors", "short");
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const absl::Status status = checkpoint->Tensor("c", {2, 1}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("tensor c"), HasSubstr("two.safetensors")));
}

TEST(Checkpoint, RefusesAnIndexThatIsWrong) {
  for (const char* index :
       {"", "[]", "{}", R"({"weight_map": []})", R"({"weight_map": {"a": 3}})",
        R"({"weight_map": {"a": "../one.safetensors"}})", R"({"weight_map": {"a": "x/../../y"}})",
        R"({"weight_map": {"a": "/etc/passwd"}})", R"({"weight_map": {"a": ""}})",
        R"({"weight_map": {"a": "x\u0000y"}})"}) {
    const std::string dir = MakeTempDir();
    WriteTempFile(dir, "model.safetensors.index.json", index);
    const absl::Status status = Checkpoint::Open(dir).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << index;
    EXPECT_THAT(MessageOf(status), HasSubstr("model.safetensors.index.json"));
  }
}

TEST(Checkpoint, ReportsADirectoryWithoutWeights) {
  const absl::Status status = Checkpoint::Open(MakeTempDir()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(MessageOf(status), HasSubstr("model.safetensors"));
  EXPECT_EQ(Checkpoint::Open("/nonexistent").status().code(), absl::StatusCode::kNotFound);
}

TEST(Checkpoint, ServesSeveralThreadsAtOnce) {
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(MakeSharded(2.0f));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  std::vector<std::thread> threads;
  std::vector<int> num_ok(4, 0);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&checkpoint, &num_ok, i] {
      for (int round = 0; round < 50; ++round) {
        num_ok[i] += checkpoint->Tensor("a", {2}).ok() && checkpoint->Tensor("c", {2, 1}).ok();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(num_ok, testing::Each(50));
}

}  // namespace
}  // namespace orrery
