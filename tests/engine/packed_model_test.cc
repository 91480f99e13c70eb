// A packed model is the model: the same weights, the same fingerprint, and no other is taken for it.
#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/test_files.h"
#include "device/host/host_device.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/store_loader.h"
#include "model/weight_files.h"
#include "tools/local_cluster.h"
#include "tools/pack/pack_model.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

std::string CopyOf(const std::string& model) {
  const std::string dir = MakeTempDir();
  for (const auto& entry : fs::directory_iterator(model)) {
    fs::copy_file(entry.path(), dir / entry.path().filename());
  }
  return dir;
}

void RemoveWeights(const std::string& dir) {
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (entry.path().string().find(".safetensors") != std::string::npos) fs::remove(entry.path());
  }
}

class PackedModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto kernels = MakeKernels(Backend::kCpu, CpuVariant::kBest, stream_.get());
    ASSERT_TRUE(kernels.ok()) << kernels.status();
    kernels_ = *std::move(kernels);
  }
  std::string IdOf(const Numerics& numerics) { return NumericsId(numerics, kernels_->family()); }

  PackedModel MustPack(const std::string& dir, const Numerics& numerics = {},
                       const std::string& out = "") {
    int64_t last = 0;
    PackModelOptions options;
    options.model_dir = dir;
    options.out_dir = out;
    options.numerics = numerics;
    options.num_threads = 3;
    const auto packed = PackModelDir(options, [&](const PackProgress& progress) {
      EXPECT_LE(last, progress.done);
      EXPECT_LE(progress.kept, progress.done);
      EXPECT_LE(progress.done, progress.total);
      last = progress.done;
    });
    EXPECT_TRUE(packed.ok()) << packed.status();
    return packed.value_or(PackedModel());
  }

  // Every item of the model, as the loader of these files has it.
  std::vector<std::vector<std::byte>> Contents(const WeightFiles& files, const ModelConfig& config,
                                               const Numerics& numerics) {
    std::atomic<int64_t> loaded_bytes = 0;
    const std::unique_ptr<WeightLoader> loader =
        files.MakeLoader(&config, kernels_.get(), device_.get(), numerics, &loaded_bytes);
    loader->Expect(RankRecords(config, /*with_mtp=*/true));
    std::vector<std::vector<std::byte>> contents;
    const auto records = ListModel(config);
    EXPECT_TRUE(records.ok()) << records.status();
    for (const WeightRecord& record : records.value_or(std::vector<WeightRecord>())) {
      for (const WeightItem& item : record.items) {
        const auto parts = ItemParts::Make(item, *loader);
        EXPECT_TRUE(parts.ok()) << item.name << ": " << parts.status();
        if (!parts.ok()) return {};
        for (const StoreWriter::Part& part : parts->parts()) {
          contents.emplace_back(part.bytes.begin(), part.bytes.end());
        }
      }
    }
    return contents;
  }

  // Opening it must fail with this, and say both values.
  void ExpectRefused(const std::string& dir, const std::vector<std::string>& values) {
    const absl::Status status = WeightFiles::Open(dir, IdOf({})).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("orrery pack"));
    for (const std::string& value : values) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(value));
    }
  }

  const std::unique_ptr<Device> device_ = MakeHostDevice();
  const std::unique_ptr<Stream> stream_ = device_->MakeStream();
  std::unique_ptr<Kernels> kernels_;
};

TEST_F(PackedModelTest, HasTheWeightsOfEveryModelBitForBit) {
  std::vector<std::string> models = {kAbacusDir};
  for (const std::string& name : GoldenModels()) models.push_back(GoldenDir(name));
  for (const std::string& model : models) {
    SCOPED_TRACE(model);
    const std::string dir = CopyOf(model);
    const auto config = ReadModelConfig(dir);
    ASSERT_TRUE(config.ok()) << config.status();
    MustPack(dir);
    const auto packed = WeightFiles::Open(dir, IdOf({}));
    ASSERT_TRUE(packed.ok()) << packed.status();
    ASSERT_NE(packed->store(), nullptr);
    const auto stored = WeightFiles::OpenCheckpoint(dir);
    ASSERT_TRUE(stored.ok()) << stored.status();
    EXPECT_TRUE(Contents(*packed, *config, {}) == Contents(*stored, *config, {}));
    const auto ours = packed->ComputeFingerprint(FingerprintScope::kPresentFiles);
    const auto theirs = stored->ComputeFingerprint(FingerprintScope::kPresentFiles);
    ASSERT_TRUE(ours.ok() && theirs.ok());
    EXPECT_EQ(ours->config_hash, theirs->config_hash);
    EXPECT_EQ(ours->files, theirs->files);
  }
}

TEST_F(PackedModelTest, IsThereForEachNumericsApart) {
  const std::string dir = CopyOf(GoldenDir("v3_basic"));
  const Numerics int8 = {.ffn_weights = WeightFormat::kInt8};
  const Numerics f32 = {.precision = Precision::kF32, .row_format = RowFormat::kF32};
  const auto config = ReadModelConfig(dir);
  const auto stored = WeightFiles::OpenCheckpoint(dir);
  ASSERT_TRUE(config.ok() && stored.ok());
  for (const Numerics& numerics : {int8, f32}) MustPack(dir, numerics);
  for (const Numerics& numerics : {int8, f32}) {
    const auto packed = WeightFiles::Open(dir, IdOf(numerics));
    ASSERT_TRUE(packed.ok()) << packed.status();
    ASSERT_NE(packed->store(), nullptr);
    EXPECT_TRUE(Contents(*packed, *config, numerics) == Contents(*stored, *config, numerics));
  }
  // Of these there is none.
  const auto files = WeightFiles::Open(dir, IdOf({}));
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->store(), nullptr);
}

TEST_F(PackedModelTest, RunsWithoutTheCheckpoint) {
  const std::string dir = MakeTempDir();
  MustPack(kAbacusDir, {}, dir);
  EXPECT_FALSE(FileExists(JoinPath(dir, "model.safetensors")));
  const auto cluster = LocalCluster::Create({.model_dir = dir, .num_shards = 3, .with_mtp = true});
  EXPECT_TRUE(cluster.ok()) << cluster.status();
}

TEST_F(PackedModelTest, IsMadeOnceAndTheSameAgain) {
  const std::string dir = CopyOf(GoldenDir("v3_basic"));
  const PackedModel first = MustPack(dir);
  EXPECT_FALSE(first.was_there);
  EXPECT_TRUE(MustPack(dir).was_there);
  const std::string index = ReadTextFile(JoinPath(first.store_dir, kIndexFile));
  fs::remove_all(first.store_dir);
  EXPECT_FALSE(MustPack(dir).was_there);
  EXPECT_EQ(ReadTextFile(JoinPath(first.store_dir, kIndexFile)), index);
  std::atomic<int64_t> num_bytes = 0;
  const absl::Status verified = VerifyPackedStore(first.store_dir, &num_bytes);
  EXPECT_TRUE(verified.ok()) << verified;
  EXPECT_EQ(num_bytes, first.num_bytes);
}

TEST_F(PackedModelTest, GoesOnWhereItWasInterrupted) {
  const std::string dir = CopyOf(GoldenDir("v3_basic"));
  const PackedModel packed = MustPack(dir);
  const std::string path = JoinPath(packed.store_dir, kIndexFile);
  const std::string index = ReadTextFile(path);
  // As it was after some records.
  fs::remove(path);
  WriteTempFile(packed.store_dir, kJournalFile, index.substr(0, index.size() / 2));
  const auto files = WeightFiles::Open(dir, IdOf({}));
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->store(), nullptr);
  EXPECT_FALSE(MustPack(dir).was_there);
  EXPECT_EQ(ReadTextFile(path), index);
}

TEST_F(PackedModelTest, IsRefusedForOtherNumerics) {
  const std::string dir = CopyOf(GoldenDir("v3_basic"));
  const Numerics f32 = {.precision = Precision::kF32, .row_format = RowFormat::kF32};
  const PackedModel packed = MustPack(dir, f32);
  fs::rename(packed.store_dir, PackedStoreDir(dir, IdOf({})));
  ExpectRefused(dir, {IdOf(f32), IdOf({})});
}

TEST_F(PackedModelTest, IsRefusedWhenTheConfigurationIsAnother) {
  const std::string dir = CopyOf(GoldenDir("v3_basic"));
  MustPack(dir);
  std::ofstream(JoinPath(dir, "config.json"), std::ios::app) << "\n";
  ExpectRefused(dir, {"config.json"});
}

TEST_F(PackedModelTest, IsRefusedWhenTheWeightsAreOthers) {
  const std::string dir = CopyOf(GoldenDir("v3_basic"));
  MustPack(dir);
  const std::string path = JoinPath(dir, "model.safetensors");
  std::string weights = ReadTextFile(path);
  weights.back() ^= 1;
  std::ofstream(path, std::ios::binary) << weights;
  ExpectRefused(dir, {"model.safetensors"});
  // Packing again replaces it.
  EXPECT_FALSE(MustPack(dir).was_there);
  EXPECT_TRUE(WeightFiles::Open(dir, IdOf({})).ok());
}

TEST_F(PackedModelTest, IsRefusedWhenItIsDamaged) {
  const std::string dir = CopyOf(GoldenDir("v3_basic"));
  const PackedModel packed = MustPack(dir);
  const std::string path = JoinPath(packed.store_dir, kRecordsFile);
  std::string records = ReadTextFile(path);
  records[records.size() / 2] ^= 1;
  std::ofstream(path, std::ios::binary) << records;
  std::atomic<int64_t> num_bytes = 0;
  EXPECT_EQ(VerifyPackedStore(packed.store_dir, &num_bytes).code(), absl::StatusCode::kDataLoss);
  const absl::Status status = LocalCluster::Create({.model_dir = dir}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
}

TEST_F(PackedModelTest, NeedsTheWholeCheckpoint) {
  const std::string dir = CopyOf(GoldenDir("fp8_w128"));
  fs::remove(JoinPath(dir, "model-00002-of-000003.safetensors"));
  EXPECT_FALSE(PackModelDir({.model_dir = dir, .out_dir = ""}, nullptr).ok());
  RemoveWeights(dir);
  EXPECT_FALSE(PackModelDir({.model_dir = dir, .out_dir = ""}, nullptr).ok());
}

}  // namespace
}  // namespace orrery
