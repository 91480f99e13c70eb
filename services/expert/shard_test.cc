#include "services/expert/shard.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/test_files.h"
#include "device/host/host_device.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/factory/make_kernels.h"

namespace orrery {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kNumExperts = 6;  // of fp8_w128, in layers 1 and 2
constexpr int kMoeLayer = 1;

std::string DTypeInFile(DType dtype) {
  return dtype == DType::kF32 ? "F32" : dtype == DType::kBf16 ? "BF16" : "F8_E4M3";
}

// Tensors on their way into one safetensors file.
struct FileContent {
  std::string header;  // without the braces around it
  std::string data;

  void Add(const std::string& name, const TensorView& tensor) {
    absl::StrAppend(&header, header.empty() ? "" : ", ", "\"", name, "\": {\"dtype\": \"",
                    DTypeInFile(tensor.dtype), "\", \"shape\": [",
                    absl::StrJoin(tensor.shape, ", "), "], \"data_offsets\": [", data.size(), ", ",
                    data.size() + tensor.num_bytes, "]}");
    data.append(reinterpret_cast<const char*>(tensor.data), tensor.num_bytes);
  }
};

// The fp8 model cut anew: experts 0-1, experts 2-5 and the rest are files of their own, of which
// only those named are written; the index knows all.
std::string MakeCheckpoint(const std::vector<std::string>& files_there) {
  const std::string golden = GoldenDir("fp8_w128");
  const std::string dir = MakeTempDir();
  std::map<std::string, FileContent> files;
  std::string weight_map;
  for (int i = 1; i <= 3; ++i) {
    const auto source =
        SafetensorsFile::Open(absl::StrCat(golden, "/model-0000", i, "-of-000003.safetensors"));
    EXPECT_TRUE(source.ok()) << source.status();
    for (const auto& [name, tensor] : (*source)->tensors()) {
      const bool is_routed = absl::StrContains(name, ".experts.");
      const bool is_low =
          absl::StrContains(name, ".experts.0.") || absl::StrContains(name, ".experts.1.");
      const std::string file = !is_routed ? "rest" : is_low ? "experts-0-1" : "experts-2-5";
      files[file].Add(name, tensor);
      absl::StrAppend(&weight_map, weight_map.empty() ? "" : ", ", "\"", name, "\": \"", file,
                      ".safetensors\"");
    }
  }
  for (const std::string& file : files_there) {
    WriteTempFile(dir, file + ".safetensors",
                  SafetensorsBytes(absl::StrCat("{", files[file].header, "}"), files[file].data));
  }
  WriteTempFile(dir, "model.safetensors.index.json",
                absl::StrCat("{\"weight_map\": {", weight_map, "}}"));
  WriteTempFile(dir, "config.json", ReadTextFile(golden + "/config.json"));
  return dir;
}

class ShardTest : public ::testing::Test {
 protected:
  ShardTest() {
    kernels_ = *MakeKernels(Backend::kCpu, CpuVariant::kBest, stream_.get());
    config_ = *ReadModelConfig(GoldenDir("fp8_w128"));
  }

  absl::StatusOr<std::unique_ptr<Shard>> Load(const std::string& dir, ExpertRange range) {
    ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::OpenCheckpoint(dir));
    ASSIGN_OR_RETURN(std::unique_ptr<Shard> shard,
                     Shard::Load({.files = &files,
                                  .config = config_,
                                  .numerics = {.row_format = RowFormat::kF32},
                                  .kernels = kernels_.get(),
                                  .device = device_.get(),
                                  .stream = &shard_stream_},
                                 range, &loaded_bytes_));
    ASSIGN_OR_RETURN(fingerprint_, files.ComputeFingerprint(FingerprintScope::kOpenedFiles));
    return shard;
  }
  std::unique_ptr<Shard> LoadGolden(ExpertRange range = {0, kNumExperts}) {
    auto shard = Load(GoldenDir("fp8_w128"), range);
    EXPECT_TRUE(shard.ok()) << shard.status();
    return *std::move(shard);
  }

  // Rows of random values; row i is the same whatever the number of rows.
  std::vector<float> Rows(int num_rows) const {
    std::mt19937 random(17);
    std::vector<float> rows(static_cast<size_t>(num_rows) * config_.hidden_size);
    for (float& value : rows) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
    return rows;
  }

  struct Answer {
    std::vector<EntryState> states;
    std::vector<std::vector<float>> results;  // by entry; empty unless kDone
  };
  // The rows stay where they are.
  InboundFrame Frame(const std::vector<float>& rows, std::vector<InboundFrame::Entry> entries,
                     int layer = kMoeLayer) const {
    InboundFrame frame;
    frame.layer = layer;
    frame.entries = std::move(entries);
    frame.num_rows = static_cast<int>(rows.size()) / config_.hidden_size;
    frame.rows = reinterpret_cast<const std::byte*>(rows.data());
    return frame;
  }
  std::vector<Answer> RunGroup(Shard& shard, const InboundGroup& group) const {
    const absl::Span<const FrameAnswer> frame_answers = shard.Run(group);
    EXPECT_EQ(frame_answers.size(), group.size());
    std::vector<Answer> answers(group.size());
    for (size_t f = 0; f < group.size(); ++f) {
      const absl::Span<const EntryState> states = frame_answers[f].states;
      const absl::Span<const std::byte> results = frame_answers[f].results;
      EXPECT_EQ(states.size(), group[f].entries.size());
      EXPECT_EQ(results.size(), states.size() * shard.result_bytes());
      answers[f].states.assign(states.begin(), states.end());
      answers[f].results.resize(states.size());
      for (size_t i = 0; i < states.size(); ++i) {
        if (states[i] != EntryState::kDone) continue;
        answers[f].results[i].resize(config_.hidden_size);
        std::memcpy(answers[f].results[i].data(), results.data() + i * shard.result_bytes(),
                    shard.result_bytes());
      }
    }
    return answers;
  }
  Answer Run(Shard& shard, const std::vector<float>& rows, std::vector<InboundFrame::Entry> entries,
             int layer = kMoeLayer) const {
    return RunGroup(shard, {Frame(rows, std::move(entries), layer)})[0];
  }

  // Fails once when told to.
  class FailingStream : public Stream {
   public:
    explicit FailingStream(Stream* stream) : stream_(stream) {}
    void CopyToDevice(void* to, const void* from, size_t num_bytes) override {
      stream_->CopyToDevice(to, from, num_bytes);
    }
    void CopyToHost(void* to, const void* from, size_t num_bytes) override {
      stream_->CopyToHost(to, from, num_bytes);
    }
    void CopyOnDevice(void* to, const void* from, size_t num_bytes) override {
      stream_->CopyOnDevice(to, from, num_bytes);
    }
    std::unique_ptr<Event> Record() override { return stream_->Record(); }
    void Wait(const Event& event) override { stream_->Wait(event); }
    absl::Status Synchronize() override {
      if (--calls_until_failure == 0) return absl::InternalError("the processor overheated");
      return stream_->Synchronize();
    }
    int calls_until_failure = 0;

   private:
    Stream* const stream_;
  };

  std::unique_ptr<Device> device_ = MakeHostDevice();
  std::unique_ptr<Stream> stream_ = device_->MakeStream();
  FailingStream shard_stream_{stream_.get()};
  std::unique_ptr<Kernels> kernels_;
  ModelConfig config_;
  Fingerprint fingerprint_;
  std::atomic<int64_t> loaded_bytes_ = 0;
};

TEST_F(ShardTest, HoldsItsRangeInEveryMoeLayerAndNoOther) {
  const auto shard = LoadGolden({2, 5});
  ASSERT_EQ(shard->held().size(), 2u);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(shard->held()[i].layer, i + 1);  // layer 0 is dense
    EXPECT_THAT(shard->held()[i].experts, ElementsAre(2, 3, 4));
  }
  EXPECT_GT(loaded_bytes_, 0);
}

// Two experts of 3 matrices, in two layers and the MTP module, one byte a weight.
TEST_F(ShardTest, EstimatesWhatItWillLoadWithTheMtpModule) {
  ModelConfig config;
  config.num_layers = 3;
  config.layer_is_moe = {false, true, true};
  config.num_experts = 8;
  config.hidden_size = 10;
  config.moe_intermediate_size = 5;
  config.weight_block_outputs = 128;
  EXPECT_EQ(Shard::EstimateBytes(config, {2, 4}, /*with_mtp=*/false), 2 * 2 * 3 * 50);
  EXPECT_EQ(Shard::EstimateBytes(config, {2, 4}, /*with_mtp=*/true), 3 * 2 * 3 * 50);
  config.weight_block_outputs = 0;  // bf16
  EXPECT_EQ(Shard::EstimateBytes(config, {2, 4}, /*with_mtp=*/false), 2 * 2 * 3 * 50 * 2);
}

TEST_F(ShardTest, StartsFromADirectoryWithoutTheFilesOfOthers) {
  const auto shard = Load(MakeCheckpoint({"experts-2-5"}), {2, 6});
  ASSERT_TRUE(shard.ok()) << shard.status();
  EXPECT_EQ(fingerprint_.files.size(), 1u);
  EXPECT_EQ(fingerprint_.files.count("experts-2-5.safetensors"), 1u);
  const std::vector<float> rows = Rows(3);
  const std::vector<InboundFrame::Entry> entries = {{0, 2}, {1, 5}, {2, 3}};
  const auto whole = LoadGolden();
  EXPECT_EQ(Run(**shard, rows, entries).results, Run(*whole, rows, entries).results);
}

TEST_F(ShardTest, AMissingFileOfItsOwnIsNamed) {
  const auto shard = Load(MakeCheckpoint({"rest", "experts-2-5"}), {1, 3});
  EXPECT_EQ(shard.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(shard.status().message()), HasSubstr("experts-0-1.safetensors"));
}

TEST_F(ShardTest, WithMoreShardsThanExpertsItMayHoldNothing) {
  const auto shard = LoadGolden({3, 3});
  EXPECT_EQ(loaded_bytes_, 0);
  EXPECT_THAT(Run(*shard, Rows(1), {{0, 3}}).states, ElementsAre(EntryState::kNotHeld));
}

TEST_F(ShardTest, AnswersAnEmptyFrameWithNothing) {
  EXPECT_TRUE(Run(*LoadGolden(), {}, {}).states.empty());
}

TEST_F(ShardTest, SaysWhatItDoesNotHoldAndDoesTheRest) {
  const auto shard = LoadGolden({2, 4});
  const Answer answer = Run(*shard, Rows(2), {{0, 1}, {0, 2}, {0, 900}, {1, 3}, {1, 4}, {1, -1}});
  EXPECT_THAT(answer.states,
              ElementsAre(EntryState::kNotHeld, EntryState::kDone, EntryState::kNotHeld,
                          EntryState::kDone, EntryState::kNotHeld, EntryState::kNotHeld));
}

TEST_F(ShardTest, HoldsNothingOfADenseLayerOrOneThatIsNotThere) {
  const auto shard = LoadGolden();
  for (const int layer : {-1, 0, 3, 1000}) {
    EXPECT_THAT(Run(*shard, Rows(1), {{0, 2}}, layer).states, ElementsAre(EntryState::kNotHeld));
  }
}

TEST_F(ShardTest, LayersAndExpertsHaveWeightsOfTheirOwn) {
  const auto shard = LoadGolden();
  const std::vector<float> rows = Rows(1);
  const Answer first = Run(*shard, rows, {{0, 2}, {0, 3}}, 1);
  const Answer second = Run(*shard, rows, {{0, 2}, {0, 3}}, 2);
  EXPECT_NE(first.results[0], first.results[1]);
  EXPECT_NE(first.results[0], second.results[0]);
}

// A whole prompt that visits one expert: each row as if it had come alone.
TEST_F(ShardTest, AllRowsToOneExpertGiveWhatEachGivesAlone) {
  const auto shard = LoadGolden();
  constexpr int kNumRows = 37;
  const std::vector<float> rows = Rows(kNumRows);
  std::vector<InboundFrame::Entry> entries;
  for (int row = 0; row < kNumRows; ++row) entries.push_back({row, 4});
  const Answer together = Run(*shard, rows, entries);
  EXPECT_THAT(together.states, Each(EntryState::kDone));
  for (int row = 0; row < kNumRows; ++row) {
    EXPECT_EQ(Run(*shard, rows, {{row, 4}}).results[0], together.results[row]) << row;
  }
}

TEST_F(ShardTest, NeitherOtherRowsNorTheOrderOfEntriesChangeABit) {
  const auto shard = LoadGolden();
  const std::vector<float> rows = Rows(8);
  std::vector<InboundFrame::Entry> entries;
  for (int row = 0; row < 8; ++row) {
    for (int j = 0; j < 3; ++j) entries.push_back({row, (row + 2 * j) % kNumExperts});
  }
  const Answer answer = Run(*shard, rows, entries);
  std::vector<InboundFrame::Entry> reversed(entries.rbegin(), entries.rend());
  const Answer backwards = Run(*shard, rows, reversed);
  for (size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(answer.results[i], backwards.results[entries.size() - 1 - i]) << i;
    EXPECT_EQ(answer.results[i], Run(*shard, rows, {entries[i]}).results[0]) << i;
  }
}

// Several ranks and frames, of any size, that hit the same experts and others: one after the other,
// together, and together in another order.
TEST_F(ShardTest, WhatElseIsInTheGroupChangesNoBitOfAFrame) {
  const auto shard = LoadGolden({1, kNumExperts});  // expert 0 is not held
  std::mt19937 random(5);
  std::vector<std::vector<float>> rows;
  InboundGroup group;
  for (const int num_rows : {1, 16, 1, 3, 33, 1}) {
    rows.push_back(Rows(num_rows));
    for (float& value : rows.back()) value += static_cast<float>(random() % 7);
    std::vector<InboundFrame::Entry> entries;
    for (int row = 0; row < num_rows; ++row) {
      for (int expert = 0; expert < kNumExperts; ++expert) {
        if (random() % 2 == 0) entries.push_back({row, expert});
      }
    }
    group.push_back(Frame(rows.back(), std::move(entries)));
  }
  std::vector<Answer> alone;
  for (const InboundFrame& frame : group) alone.push_back(RunGroup(*shard, {frame})[0]);
  for (int round = 0; round < 2; ++round) {
    const std::vector<Answer> together = RunGroup(*shard, group);
    for (size_t f = 0; f < group.size(); ++f) {
      EXPECT_EQ(together[f].states, alone[f].states) << f;
      EXPECT_EQ(together[f].results, alone[f].results) << f;
    }
    std::reverse(group.begin(), group.end());
    std::reverse(alone.begin(), alone.end());
  }
}

TEST_F(ShardTest, AnEntryWithoutARowIsRefusedAndNoOtherIsTouched) {
  const auto shard = LoadGolden();
  const std::vector<float> rows = Rows(2);
  const InboundFrame good = Frame(rows, {{0, 2}, {1, 3}});
  const InboundFrame bad = Frame(rows, {{2, 2}, {1, 2}, {-1, 3}, {1 << 30, 900}});
  const std::vector<Answer> answers = RunGroup(*shard, {bad, good});
  EXPECT_THAT(answers[0].states, ElementsAre(EntryState::kRefused, EntryState::kDone,
                                             EntryState::kRefused, EntryState::kRefused));
  EXPECT_EQ(answers[0].results[1], Run(*shard, rows, {{1, 2}}).results[0]);
  EXPECT_EQ(answers[1].results, RunGroup(*shard, {good})[0].results);
}

TEST_F(ShardTest, AGroupThatCannotBeRunIsRefusedAndTheNextOneRuns) {
  const auto shard = LoadGolden({1, 5});
  const std::vector<float> rows = Rows(3);
  const InboundGroup group = {Frame(rows, {{0, 2}, {0, 4}}), Frame(rows, {{1, 1}, {1, 0}})};
  const std::vector<Answer> whole = RunGroup(*shard, group);
  shard_stream_.calls_until_failure = 1;
  const std::vector<Answer> damaged = RunGroup(*shard, group);
  EXPECT_THAT(damaged[0].states, ElementsAre(EntryState::kRefused, EntryState::kRefused));
  EXPECT_THAT(damaged[1].states, ElementsAre(EntryState::kRefused, EntryState::kNotHeld));
  const std::vector<Answer> again = RunGroup(*shard, group);
  for (size_t f = 0; f < group.size(); ++f) EXPECT_EQ(again[f].results, whole[f].results) << f;
}

}  // namespace
}  // namespace orrery
