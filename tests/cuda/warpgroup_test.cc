// The models of sm_90a's instructions before they vouch for anything: products of operands that were laid out by the
// manual's rules, written down here once more; barriers, bulk copies; and what a GPU leaves undefined ends the
// process.

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/dtypes.h"
#include "kernels/cuda/ptx_sm90.h"

namespace orrery {
namespace {

using cuda_on_host::RunGrid;
using ptx::Barrier;

std::byte* Shared(int offset = 0) { return cuda_on_host::DynamicSharedMemory() + offset; }
int Thread() { return static_cast<int>(threadIdx.x); }

// Values [num_rows, num_cols] that are exact in e4m3, and so in bf16.
std::vector<float> SmallValues(int num_rows, int num_cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(num_rows * num_cols);
  for (float& value : values) value = Fp8E4m3ToF32(F32ToFp8E4m3(normal(random)));
  return values;
}

// Writes them as slabs of 128 bytes, [num_rows] each, by threads 0..: the swizzle as the manual says it, three bits of
// the address of a piece turned over by three bits of the address of its row.
void Write(const std::vector<float>& values, int num_rows, int num_cols, int value_bytes,
           int offset) {
  const int slab_values = 128 / value_bytes;
  for (int i = Thread(); i < num_rows * num_cols; i += static_cast<int>(blockDim.x)) {
    const int row = i / num_cols, col = i % num_cols;
    unsigned at =
        offset + col / slab_values * num_rows * 128 + row * 128 + col % slab_values * value_bytes;
    at ^= (at >> 7 & 7) << 4;
    if (value_bytes == 1) {
      *reinterpret_cast<uint8_t*>(Shared(at)) = F32ToFp8E4m3(values[i]);
    } else {
      *reinterpret_cast<uint16_t*>(Shared(at)) = F32ToBf16(values[i]);
    }
  }
}

// Where sums [64, num_columns] lie, in the words of the manual: T%d of a warp, d%d.
template <int num>
void ExpectSums(const float (&sums)[num], const std::vector<float>& want) {
  const int warp = Thread() / 32 % 4, group = Thread() % 32 / 4, in_group = Thread() % 4;
  for (int i = 0; i < num; ++i) {
    const int row = 16 * warp + group + (i % 4 >= 2 ? 8 : 0);
    const int column = i / 4 * 8 + in_group * 2 + i % 2;
    ASSERT_NEAR(sums[i], want[row * 2 * num + column], 1e-4) << row << ", " << column;
  }
}

// [64, num_columns] of a [64, num_inputs] and b [num_columns, num_inputs].
std::vector<float> Product(const std::vector<float>& a, const std::vector<float>& b,
                           int num_columns, int num_inputs) {
  std::vector<float> product(64 * num_columns);
  for (int row = 0; row < 64; ++row) {
    for (int n = 0; n < num_columns; ++n) {
      for (int k = 0; k < num_inputs; ++k) {
        product[row * num_columns + n] += a[row * num_inputs + k] * b[n * num_inputs + k];
      }
    }
  }
  return product;
}

// Two warpgroups, each with a B of its own.
TEST(Warpgroup, MultipliesFp8AlongRows) {
  const std::vector<float> a = SmallValues(64, 128, 1);
  const std::vector<float> b[2] = {SmallValues(64, 128, 2), SmallValues(64, 128, 3)};
  RunGrid(1, 256, 3 * 8192, [&] {
    Write(a, 64, 128, 1, 0);
    Write(b[0], 64, 128, 1, 8192);
    Write(b[1], 64, 128, 1, 2 * 8192);
    ptx::FenceAsync();
    __syncthreads();
    const int warpgroup = Thread() / 128;
    float sums[32];
    ptx::FenceProducts();
    for (int k = 0; k < 4; ++k) {
      ptx::MultiplyFp8(sums, ptx::Advanced(ptx::AlongRows(Shared()), 32 * k),
                       ptx::Advanced(ptx::AlongRows(Shared(8192 * (1 + warpgroup))), 32 * k),
                       k > 0);
    }
    ptx::CommitProducts();
    EXPECT_TRUE(std::isnan(sums[Thread() % 32]));  // not there yet
    ptx::AwaitProducts<0>();
    ExpectSums(sums, Product(a, b[warpgroup], 64, 128));
  });
}

TEST(Warpgroup, MultipliesBf16AlongRows) {
  const std::vector<float> a = SmallValues(64, 64, 1), b = SmallValues(64, 64, 2);
  RunGrid(1, 128, 2 * 8192, [&] {
    Write(a, 64, 64, 2, 0);
    Write(b, 64, 64, 2, 8192);
    __syncthreads();
    float sums[2][32];
    ptx::FenceProducts();
    for (int k = 0; k < 4; ++k) {
      const uint64_t of_a = ptx::Advanced(ptx::AlongRows(Shared()), 32 * k);
      const uint64_t of_b = ptx::Advanced(ptx::AlongRows(Shared(8192)), 32 * k);
      ptx::MultiplyBf16(sums[0], of_a, of_b, k > 0);
      ptx::CommitProducts();
      ptx::MultiplyBf16(sums[1], of_b, of_a, k > 0);
      ptx::CommitProducts();
    }
    ptx::AwaitProducts<1>();
    ExpectSums(sums[0], Product(a, b, 64, 64));
    ptx::AwaitProducts<0>();
    ExpectSums(sums[1], Product(b, a, 64, 64));
  });
}

// Values of 64 tokens, summed over the tokens: b's rows are inputs.
TEST(Warpgroup, MultipliesBf16AcrossRows) {
  const std::vector<float> a = SmallValues(64, 64, 1), b = SmallValues(64, 256, 2);
  std::vector<float> transposed(b.size());
  for (int k = 0; k < 64; ++k) {
    for (int n = 0; n < 256; ++n) transposed[n * 64 + k] = b[k * 256 + n];
  }
  const std::vector<float> want = Product(a, transposed, 256, 64);
  RunGrid(1, 128, 5 * 8192, [&] {
    Write(a, 64, 64, 2, 0);
    Write(b, 64, 256, 2, 8192);
    __syncthreads();
    float sums[128] = {};
    ptx::FenceProducts();
    for (int k = 0; k < 4; ++k) {
      ptx::MultiplyBf16Across(sums, ptx::Advanced(ptx::AlongRows(Shared()), 32 * k),
                              ptx::Advanced(ptx::AcrossRows(Shared(8192), 8192), 2048 * k));
    }
    ptx::CommitProducts();
    ptx::AwaitProducts<0>();
    ExpectSums(sums, want);
  });
}

// A ring of two slots: one warp brings 20 numbers, the other reads them, and neither overtakes.
TEST(Barriers, PassSlotsOnAndBack) {
  alignas(16) uint32_t from[20][4];
  for (uint32_t i = 0; i < 20; ++i) from[i][0] = from[i][1] = from[i][2] = from[i][3] = 100 + i;
  RunGrid(2, 64, 1024, [&] {
    auto* const full = reinterpret_cast<Barrier*>(Shared(64));
    auto* const empty = full + 2;
    if (Thread() == 0) {
      for (int slot = 0; slot < 2; ++slot) {
        ptx::MakeBarrier(full[slot], 1);
        ptx::MakeBarrier(empty[slot], 32);
      }
    }
    __syncthreads();
    for (int i = 0; i < 20; ++i) {
      const int slot = i % 2;
      const uint32_t parity = i / 2 % 2;
      if (Thread() >= 32) {
        ptx::Await(full[slot], parity);
        EXPECT_EQ(reinterpret_cast<uint32_t*>(Shared(16 * slot))[Thread() % 4], 100u + i);
        ptx::Arrive(empty[slot]);
      } else if (Thread() == 0) {
        ptx::Await(empty[slot], parity ^ 1);
        ptx::ArriveExpecting(full[slot], 16);
        ptx::CopyBulk(Shared(16 * slot), reinterpret_cast<const std::byte*>(from[i]), 16,
                      full[slot]);
      }
    }
  });
}

TEST(Barriers, OfSomeWarpsLeaveTheOthersAlone) {
  RunGrid(1, 128, 128 * sizeof(int), [] {
    auto* const shared = reinterpret_cast<int*>(Shared());
    if (Thread() < 32) return;
    if (Thread() < 96) {
      shared[Thread()] = Thread();
      ptx::MeetAt(2, 64);
      EXPECT_EQ(shared[32 + (Thread() + 1) % 64], 32 + (Thread() + 1) % 64);
    } else {
      ptx::MeetAt(1, 32);
    }
  });
}

template <typename Body>
void RunOneWarpgroup(Body body) {
  RunGrid(1, 128, 2 * 8192, [&] {
    Write(std::vector<float>(64 * 128, 1.0f), 64, 128, 1, 0);
    __syncthreads();
    body();
  });
}

TEST(WarpgroupDeathTest, NoticesAnOperandThatChangesUnderWay) {
  EXPECT_DEATH(RunOneWarpgroup([] {
                 float sums[32];
                 ptx::FenceProducts();
                 ptx::MultiplyFp8(sums, ptx::AlongRows(Shared()), ptx::AlongRows(Shared()), false);
                 ptx::CommitProducts();
                 *Shared(5) = std::byte{0};
                 ptx::AwaitProducts<0>();
               }),
               "changed while a product read it");
}

TEST(WarpgroupDeathTest, NoticesAMissingFenceAndAMissingWait) {
  EXPECT_DEATH(RunOneWarpgroup([] {
                 float sums[32];
                 ptx::MultiplyFp8(sums, ptx::AlongRows(Shared()), ptx::AlongRows(Shared()), false);
               }),
               "without wgmma.fence");
  EXPECT_DEATH(RunOneWarpgroup([] {
                 float sums[32];
                 ptx::FenceProducts();
                 ptx::MultiplyFp8(sums, ptx::AlongRows(Shared()), ptx::AlongRows(Shared()), false);
               }),
               "ends while products are under way");
}

TEST(WarpgroupDeathTest, RefusesDescriptorsThatPointAstray) {
  const auto multiply = [](uint64_t a) {
    float sums[32];
    ptx::FenceProducts();
    ptx::MultiplyFp8(sums, a, ptx::AlongRows(Shared()), false);
  };
  EXPECT_DEATH(RunOneWarpgroup([&] { multiply(ptx::AlongRows(Shared(128))); }), "swizzled tile");
  EXPECT_DEATH(RunOneWarpgroup([&] { multiply(ptx::AlongRows(Shared(8192 + 1024))); }),
               "reaches shared address");
  EXPECT_DEATH(
      RunOneWarpgroup([&] { multiply(ptx::AlongRows(Shared(Thread() == 77 ? 8192 : 0))); }),
      "does not agree");
}

TEST(BarriersDeathTest, NoticeWhoNeverComesAndWhatNobodyMade) {
  EXPECT_DEATH(RunGrid(1, 32, 64,
                       [] {
                         auto& barrier = *reinterpret_cast<Barrier*>(Shared());
                         if (Thread() == 0) ptx::MakeBarrier(barrier, 33);
                         __syncwarp();
                         ptx::Arrive(barrier);
                         ptx::Await(barrier, 0);
                       }),
               "from thread 0: an mbarrier");
  EXPECT_DEATH(RunGrid(1, 32, 64, [] { ptx::Arrive(*reinterpret_cast<Barrier*>(Shared())); }),
               "nobody has made");
}

TEST(BarriersDeathTest, NoticeACopyThatNobodyWaitsFor) {
  EXPECT_DEATH(RunGrid(1, 32, 64,
                       [] {
                         alignas(16) static const std::byte from[16] = {};
                         if (Thread() > 0) return;
                         auto& barrier = *reinterpret_cast<Barrier*>(Shared());
                         ptx::MakeBarrier(barrier, 1);
                         ptx::ArriveExpecting(barrier, 16);
                         ptx::CopyBulk(Shared(16), from, 16, barrier);
                       }),
               "a block ends while 1 bulk copies");
}

}  // namespace
}  // namespace orrery
