// Rows whose places are read on the device, captured or not, are the rows of their sequences: the same
// bits, whatever batch of the shape the work was captured with.

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "device/cuda/cuda_device.h"
#include "kernels/cuda/make_cuda_kernels.h"
#include "kernels/kernels.h"

namespace orrery {
namespace {

constexpr int kHeads = 3, kDim = 16, kKvHeads = 2, kRowWidth = 2 * kKvHeads * kDim;
constexpr int kMaxPositions = 2100, kNumBlocks = 70, kMaxRows = 8;

// Two sequences of a batch: where their rows begin, and how many there are.
struct TwoSequences {
  int first_position[2];
  int num_rows[2];
  int num_cached_rows = 0;  // of the first
};

class PlacedRows : public testing::TestWithParam<DType> {
 protected:
  PlacedRows() {
    const size_t cache_bytes =
        size_t{kNumBlocks} * kKvBlockTokens * kRowWidth * DTypeBytes(GetParam());
    memory_ = Make(cache_bytes);
    cache_ = {GetParam(), memory_.as<std::byte>(), kNumBlocks, kRowWidth};
    cos_ = Upload(Random(kMaxPositions * kDim / 2, 1));
    sin_ = Upload(Random(kMaxPositions * kDim / 2, 2));
    rope_ = {cos_.as<float>(), sin_.as<float>(), kMaxPositions, kDim};
    for (int i = 0; i < kNumBlocks; ++i) blocks_[i % 2].push_back(kNumBlocks - 1 - i);
    const Buffer rows = Upload(Random(size_t{kMaxPositions} * kRowWidth, 3));
    for (const auto& blocks : blocks_) {
      kernels_->AppendKv(ConstMatrix(rows.as<float>(), kMaxPositions, kRowWidth), cache_, blocks,
                         0);
    }
    past_ = Make(cache_bytes);
    stream_->CopyOnDevice(past_.data(), memory_.data(), cache_bytes);
    EXPECT_TRUE(stream_->Synchronize().ok());
    q_ = Make(kMaxRows * kKvHeads * kHeads * kDim * sizeof(float));
    kv_ = Make(kMaxRows * kRowWidth * sizeof(float));
    out_ = Make(kMaxRows * kKvHeads * kHeads * kDim * sizeof(float));
    places_ = *kernels_->MakeRowPlaces({.max_rows = kMaxRows, .max_positions = kMaxPositions});
  }
  Buffer Make(size_t num_bytes) { return *device_->Allocate(num_bytes, MemoryKind::kDevice); }
  std::vector<float> Random(size_t num, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(num);
    for (float& value : values) value = normal(random);
    return values;
  }
  void Copy(const Buffer& to, const std::vector<float>& values) {
    stream_->CopyToDevice(to.data(), values.data(), values.size() * sizeof(float));
    ASSERT_TRUE(stream_->Synchronize().ok());
  }
  Buffer Upload(const std::vector<float>& values) {
    Buffer buffer = Make(values.size() * sizeof(float));
    Copy(buffer, values);
    return buffer;
  }
  std::vector<uint8_t> Read(const void* data, size_t num_bytes) {
    std::vector<uint8_t> bytes(num_bytes);
    stream_->CopyToHost(bytes.data(), data, num_bytes);
    EXPECT_TRUE(stream_->Synchronize().ok());
    return bytes;
  }
  // Both sequences have a past, and inputs are new.
  void Begin(const TwoSequences& batch) {
    stream_->CopyOnDevice(memory_.data(), past_.data(), memory_.num_bytes());
    Copy(q_, Random(kMaxRows * kKvHeads * kHeads * kDim, 4));
    Copy(kv_, Random(kMaxRows * kRowWidth, 5));
    Copy(out_, std::vector<float>(kMaxRows * kKvHeads * kHeads * kDim));
    sequences_.clear();
    int row = 0;
    for (int i = 0; i < 2; ++i) {
      sequences_.push_back({.row_begin = row,
                            .num_rows = batch.num_rows[i],
                            .first_position = batch.first_position[i],
                            .num_cached_rows = i == 0 ? batch.num_cached_rows : 0,
                            .block_ids = blocks_[i]});
      row += batch.num_rows[i];
    }
    places_->Set(sequences_);
    num_rows_ = row;
  }
  // What the attention of a layer does with them.
  void Work(int num_rows) {
    const int width = kHeads * kDim;
    const Matrix q(q_.as<float>(), num_rows, kKvHeads * width);
    const Matrix out(out_.as<float>(), num_rows, kKvHeads * width);
    const Matrix kv(kv_.as<float>(), num_rows, kRowWidth);
    kernels_->RopeBatch(q, kKvHeads * kHeads, kDim, *places_, RopePairing::kHalfSplit, rope_);
    kernels_->RopeBatch(kv.Columns(0, kKvHeads * kDim), kKvHeads, kDim, *places_,
                        RopePairing::kInterleaved, rope_);
    kernels_->AppendKvBatch(kv, cache_, *places_);
    std::vector<AttendArgs> heads;
    for (int i = 0; i < kKvHeads; ++i) {
      heads.push_back({.q = q.Columns(i * width, width),
                       .num_heads = kHeads,
                       .key_dim = kDim,
                       .key_offset = i * kDim,
                       .value_dim = kDim,
                       .value_offset = (kKvHeads + i) * kDim,
                       .scale = 0.3f,
                       .cache = cache_,
                       .begin_position = i,
                       .out = out.Columns(i * width, width)});
    }
    kernels_->AttendBatch(heads, *places_);
  }
  // The batch's rows of what was written.
  std::vector<std::vector<uint8_t>> Result() {
    const size_t row_bytes = kKvHeads * kHeads * kDim * sizeof(float);
    return {Read(q_.data(), num_rows_ * row_bytes), Read(out_.data(), num_rows_ * row_bytes),
            Read(cache_.data, memory_.num_bytes())};
  }

  std::unique_ptr<Device> device_ = *MakeCudaDevice(0);
  std::unique_ptr<Stream> stream_ = device_->MakeStream();
  std::unique_ptr<Kernels> kernels_ = *MakeCudaKernels(stream_.get());
  Buffer memory_, past_, cos_, sin_, q_, kv_, out_;
  KvCacheView cache_;
  RopeTable rope_;
  std::vector<int32_t> blocks_[2];
  std::unique_ptr<RowPlaces> places_;
  std::vector<SequenceRows> sequences_;
  int num_rows_ = 0;
};

// Of one shape: five rows up to eight, three spans of 1,024 positions.
constexpr TwoSequences kBatches[] = {
    {.first_position = {2060, 1}, .num_rows = {2, 3}, .num_cached_rows = 1},
    {.first_position = {1023, 2050}, .num_rows = {4, 2}},
    {.first_position = {1700, 2090}, .num_rows = {1, 5}},
};

TEST_P(PlacedRows, AreRowsOfTheirSequences) {
  std::unique_ptr<Graph> graph;
  for (const TwoSequences& batch : kBatches) {
    SCOPED_TRACE(batch.first_position[0]);
    Begin(batch);
    Work(num_rows_);
    const auto want = Result();

    Begin(batch);
    ASSERT_EQ(places_->shape(), (BatchShape{.num_rows = 8, .num_cache_spans = 3}));
    Work(8);
    EXPECT_EQ(Result(), want) << "placed";

    Begin(batch);
    if (graph == nullptr) {
      auto captured = stream_->Capture([&] { Work(8); });
      ASSERT_TRUE(captured.ok()) << captured.status();
      graph = *std::move(captured);
      EXPECT_NE(Result(), want) << "it happened";
    }
    stream_->Replay(*graph);
    EXPECT_EQ(Result(), want) << "replayed";
  }
}

TEST_P(PlacedRows, HaveNoShapeWhereThereAreTooMany) {
  const auto places = *kernels_->MakeRowPlaces({.max_rows = 200, .max_positions = 200});
  const std::vector<int32_t> blocks = {0, 1, 2, 3};
  for (const auto& [num_rows, want] : {std::pair(1, 1), {3, 4}, {64, 64}, {65, 0}, {150, 0}}) {
    const std::vector<SequenceRows> rows = {{.num_rows = num_rows, .block_ids = blocks}};
    places->Set(rows);
    EXPECT_EQ(places->shape().num_rows, want);
  }
}

INSTANTIATE_TEST_SUITE_P(All, PlacedRows, testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& info) {
                           return info.param == DType::kF32 ? "f32" : "bf16";
                         });

}  // namespace
}  // namespace orrery
