// How kernels/cuda cuts work into blocks of threads and rounds depends on the GPU, and changes no bit.

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "device/cuda/cuda_device.h"
#include "kernels/cuda/attention_bf16.h"
#include "kernels/cuda/attention_wgmma.h"
#include "kernels/cuda/cuda_kernels.h"
#include "tests/cuda/machine.h"

namespace orrery {
namespace {

constexpr int kNumTokens = 2100, kNumRows = 5;
constexpr size_t kSharedBytes = 99 << 10;

struct Shape {
  int num_heads;
  int key_dim;
  int value_dim;
};
constexpr Shape kSmall = {40, 72, 64}, kMla = {66, 576, 512};

// Rows of two sequences that share a cache: one of several spans, and one that ends within the first.
std::vector<float> AttendWith(const ScheduleLimits& limits, DType format,
                              const Shape& shape = kSmall,
                              Instructions instructions = Instructions::kMma) {
  std::unique_ptr<Device> memory = *MakeCudaDevice(0);
  std::unique_ptr<Stream> stream = memory->MakeStream();
  CudaKernels kernels(dynamic_cast<CudaStream*>(stream.get()), instructions, limits, "", "");
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto upload = [&](int64_t num_rows, int64_t num_cols, std::vector<Buffer>& buffers) {
    std::vector<float> values(num_rows * num_cols);
    for (float& value : values) value = normal(random);
    buffers.push_back(*memory->Allocate(values.size() * sizeof(float), MemoryKind::kDevice));
    stream->CopyToDevice(buffers.back().as<float>(), values.data(), values.size() * sizeof(float));
    EXPECT_TRUE(stream->Synchronize().ok());
    return Matrix(buffers.back().as<float>(), num_rows, num_cols);
  };
  std::vector<Buffer> buffers;
  const Matrix rows = upload(kNumTokens, shape.key_dim, buffers);
  const Matrix q = upload(2 * kNumRows, shape.num_heads * shape.key_dim, buffers);
  const Matrix out = upload(2 * kNumRows, shape.num_heads * shape.value_dim, buffers);
  std::vector<int32_t> block_ids;
  for (int i = 0; i * kKvBlockTokens < kNumTokens; ++i) block_ids.push_back(i);
  const auto num_blocks = static_cast<int>(block_ids.size());
  const Matrix cache_memory = upload(num_blocks * kKvBlockTokens, shape.key_dim, buffers);
  const KvCacheView cache = {format, reinterpret_cast<std::byte*>(cache_memory.data), num_blocks,
                             shape.key_dim};
  kernels.AppendKv(rows, cache, block_ids, 0);
  const auto args = [&](int first_row, int end_position) {
    return AttendArgs{.q = q.Rows(first_row, kNumRows),
                      .num_heads = shape.num_heads,
                      .key_dim = shape.key_dim,
                      .value_dim = shape.value_dim,
                      .scale = 0.1f,
                      .cache = cache,
                      .block_ids = block_ids,
                      .first_position = end_position - kNumRows,
                      .out = out.Rows(first_row, kNumRows)};
  };
  kernels.Attend(std::vector<AttendArgs>{args(0, kNumTokens), args(kNumRows, 100)});
  std::vector<float> values(out.num_rows * out.num_cols);
  stream->CopyToHost(values.data(), out.data, values.size() * sizeof(float));
  EXPECT_TRUE(stream->Synchronize().ok());
  return values;
}

TEST(Schedules, OfAttentionChangeNoBit) {
  for (const DType format : {DType::kBf16, DType::kF32}) {
    // One multiprocessor is busy with 64 heads to a block, a thousand are not with 16.
    const std::vector<float> want = AttendWith({kSharedBytes, 1, 128 << 20}, format);
    for (const ScheduleLimits& limits : {
             ScheduleLimits{kSharedBytes, 25, 128 << 20},
             ScheduleLimits{kSharedBytes, 1000, 128 << 20},
             ScheduleLimits{32 << 10, 1, 128 << 20},
             // Of one row, which is the least, and of two.
             ScheduleLimits{kSharedBytes, 1, 1},
             ScheduleLimits{kSharedBytes, 1,
                            2 * 3 * kSmall.num_heads * (kSmall.value_dim + 4) * sizeof(float)},
         }) {
      SCOPED_TRACE(testing::Message() << limits.shared_bytes << " bytes of shared memory, "
                                      << limits.num_multiprocessors << " multiprocessors, "
                                      << limits.partial_bytes << " bytes of partial results");
      const std::vector<float> got = AttendWith(limits, format);
      ASSERT_EQ(got.size(), want.size());
      EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0);
    }
  }
}

// All rows at once, and row by row.
TEST(Schedules, OfMlaOnSm90ChangeNoBit) {
  cuda_on_host::TheMachine() = cuda_on_host::kSm90;
  const auto attend = [](size_t partial_bytes) {
    return AttendWith({cuda_on_host::kSm90.shared_bytes, 1, partial_bytes}, DType::kBf16, kMla,
                      Instructions::kWgmma);
  };
  const std::vector<float> want = attend(128 << 20), got = attend(1);
  cuda_on_host::TheMachine() = cuda_on_host::kSm80;
  ASSERT_EQ(got.size(), want.size());
  EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0);
}

// Dynamic shared memory that a block of threads may have: CUDA C++ Programming Guide, "Technical
// Specifications per Compute Capability".
TEST(Schedules, FitMlaIntoEveryGpu) {
  AttendJob job;
  job.key_dim = 576;
  job.value_dim = 512;
  EXPECT_LE(AttendWgmma::SharedBytes(job), size_t{227} << 10);          // sm_90
  EXPECT_LE((AttendBf16<64, 3>::SharedBytes(job)), size_t{227} << 10);  // sm_90
  EXPECT_LE((AttendBf16<32, 3>::SharedBytes(job)), size_t{163} << 10);  // sm_80
  EXPECT_LE((AttendBf16<16, 2>::SharedBytes(job)), size_t{99} << 10);   // sm_86
}

}  // namespace
}  // namespace orrery
