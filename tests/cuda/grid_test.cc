// The stand-in before it vouches for anything: threads, barriers, warp collectives and mma.sync do what CUDA
// says, and what CUDA leaves undefined ends the process.

#include <cuda_runtime.h>
#include <gtest/gtest.h>
#include <ptx_on_host.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/dtypes.h"

namespace orrery {
namespace {

using cuda_on_host::RunGrid;

TEST(Grid, RunsEveryThreadOfEveryBlockOnce) {
  std::vector<int> visits(2 * 3 * 2 * 64);
  RunGrid({2, 3, 2}, {16, 2, 2}, 0, [&] {
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    ++visits[block * 64 + thread];
  });
  EXPECT_EQ(visits, std::vector<int>(visits.size(), 1));
}

// Every thread reads what its neighbour in another warp wrote, again and again.
TEST(Grid, BarriersOrderWhatIsWrittenAndRead) {
  RunGrid(3, 96, 96 * sizeof(int), [] {
    auto* const shared = reinterpret_cast<int*>(cuda_on_host::DynamicSharedMemory());
    const int thread = static_cast<int>(threadIdx.x);
    int value = thread;
    for (int round = 0; round < 10; ++round) {
      shared[thread] = value;
      __syncthreads();
      value = shared[(thread + 33) % 96];
      __syncthreads();
    }
    EXPECT_EQ(value, (thread + 330) % 96);
  });
}

TEST(Grid, SharedMemoryStartsAsNoNumber) {
  RunGrid(2, 32, 4 * 32, [] {
    auto* const shared = reinterpret_cast<float*>(cuda_on_host::DynamicSharedMemory());
    EXPECT_TRUE(std::isnan(shared[threadIdx.x]));
    shared[threadIdx.x] = 1.0f;
  });
}

TEST(Grid, LanesReadEachOther) {
  RunGrid(1, 64, 0, [] {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int mine = 100 * warp + lane;
    EXPECT_EQ(__shfl_sync(0xffffffffu, mine, 5), 100 * warp + 5);
    EXPECT_EQ(__shfl_xor_sync(0xffffffffu, mine, 9), 100 * warp + (lane ^ 9));
    EXPECT_EQ(__ballot_sync(0xffffffffu, lane % 3 == 0), 0x49249249u);
    float sum = static_cast<float>(lane);
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    EXPECT_EQ(sum, 496.0f);
    __syncwarp();
  });
}

TEST(Grid, FlushesDenormals) {
  volatile float tiny = 1e-40f;
  RunGrid(1, 32, 0, [&] { EXPECT_EQ(tiny * 1.0f, 0.0f); });
  EXPECT_NE(tiny * 1.0f, 0.0f);
}

// Against plain loops over matrices, with the places of elements written down as in the manual's
// pictures: %laneid >> 2 is the group, %laneid % 4 the thread in it.
TEST(Mma, MultipliesFragments) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  float a[16][16], b[16][8], c[16][8], out[16][8];
  for (auto& row : a)
    for (float& value : row) value = RoundToBf16(normal(random));
  for (auto& row : b)
    for (float& value : row) value = RoundToBf16(normal(random));
  for (auto& row : c)
    for (float& value : row) value = normal(random);
  const auto pack = [](float low, float high) {
    return F32ToBf16(low) | static_cast<uint32_t>(F32ToBf16(high)) << 16;
  };
  RunGrid(1, 32, 0, [&] {
    const int group = static_cast<int>(threadIdx.x) >> 2,
              in_group = static_cast<int>(threadIdx.x) % 4;
    uint32_t a_registers[4], b_registers[2];
    for (int pair = 0; pair < 4; ++pair) {  // elements a0 a1, a2 a3, a4 a5, a6 a7
      const int row = pair == 0 || pair == 2 ? group : group + 8;
      const int column = in_group * 2 + (pair >= 2 ? 8 : 0);
      a_registers[pair] = pack(a[row][column], a[row][column + 1]);
    }
    for (int pair = 0; pair < 2; ++pair) {
      const int row = in_group * 2 + (pair >= 1 ? 8 : 0);
      b_registers[pair] = pack(b[row][group], b[row + 1][group]);
    }
    float sums[4];
    for (int i = 0; i < 4; ++i) sums[i] = c[i < 2 ? group : group + 8][in_group * 2 + (i & 1)];
    ptx::MmaBf16(sums, a_registers, b_registers);
    for (int i = 0; i < 4; ++i) out[i < 2 ? group : group + 8][in_group * 2 + (i & 1)] = sums[i];
  });
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      double want = c[row][column], absolute = std::fabs(want);
      for (int k = 0; k < 16; ++k) {
        want += static_cast<double>(a[row][k]) * b[k][column];
        absolute += std::fabs(static_cast<double>(a[row][k]) * b[k][column]);
      }
      EXPECT_NEAR(out[row][column], want, 17 * 0x1p-24 * absolute) << row << ", " << column;
    }
  }
}

// Lane 8 m + i points to row i of matrix m; the rows lie in no order.
TEST(Ldmatrix, LoadsRowsOrColumnsOfFourMatrices) {
  const auto element = [](int matrix, int row, int column) {
    return static_cast<uint16_t>(100 * matrix + 10 * row + column);
  };
  RunGrid(1, 32, 32 * 16, [&] {
    std::byte* const shared = cuda_on_host::DynamicSharedMemory();
    const int lane = static_cast<int>(threadIdx.x);
    std::byte* const row = shared + lane * 5 % 32 * 16;
    for (int column = 0; column < 8; ++column) {
      reinterpret_cast<uint16_t*>(row)[column] = element(lane / 8, lane % 8, column);
    }
    __syncwarp();
    uint32_t rows[4], columns[4];
    ptx::LoadMatrices(rows, row);
    ptx::LoadTransposed(columns, row);
    const int group = lane >> 2, first = lane % 4 * 2;
    for (int m = 0; m < 4; ++m) {
      EXPECT_EQ(rows[m], element(m, group, first) | element(m, group, first + 1) << 16);
      EXPECT_EQ(columns[m], element(m, first, group) | element(m, first + 1, group) << 16);
    }
  });
}

TEST(Copies, ArriveWhenTheirThreadWaitsForTheirGroup) {
  alignas(16) const uint64_t from[3] = {1, 2, 3};
  RunGrid(2, 32, 32 * 32, [&] {
    auto* const to =
        reinterpret_cast<uint64_t*>(cuda_on_host::DynamicSharedMemory()) + threadIdx.x * 4;
    to[0] = to[2] = 0;
    ptx::CopyLater<16>(reinterpret_cast<std::byte*>(to), reinterpret_cast<const std::byte*>(from));
    ptx::CommitCopies();
    ptx::CopyLater<8>(reinterpret_cast<std::byte*>(to + 2),
                      reinterpret_cast<const std::byte*>(from + 2));
    ptx::CommitCopies();
    EXPECT_EQ(to[0], 0u);
    ptx::WaitForCopies<1>();
    EXPECT_EQ(to[0], 1u);
    EXPECT_EQ(to[1], 2u);
    EXPECT_EQ(to[2], 0u);
    ptx::WaitForCopies<0>();
    EXPECT_EQ(to[2], 3u);
  });
}

TEST(GridDeathTest, NoticesAThreadThatMissesABarrier) {
  EXPECT_DEATH(
      RunGrid(1, 64, 0,
              [] {
                if (threadIdx.x != 40) __syncthreads();
              }),
      "will not come: from thread 0: __syncthreads; from thread 40: the end; from thread 41");
}

TEST(GridDeathTest, NoticesALaneThatMissesItsWarp) {
  EXPECT_DEATH(RunGrid(1, 32, 0,
                       [] {
                         if (threadIdx.x > 0) __syncwarp();
                       }),
               "from thread 0: the end; from thread 1: __syncwarp");
}

TEST(GridDeathTest, NoticesAWarpThatDisagreesOnWhatItDoes) {
  EXPECT_DEATH(RunGrid(1, 32, 0,
                       [] {
                         if (threadIdx.x == 3) {
                           __ballot_sync(0xffffffffu, 1);
                         } else {
                           __syncwarp();
                         }
                       }),
               "thread 3 is in __ballot_sync while its warp is in __syncwarp");
}

TEST(GridDeathTest, NoticesALaneThatMeetsTheBlockWhileItsWarpWaits) {
  EXPECT_DEATH(RunGrid(1, 64, 0,
                       [] {
                         if (threadIdx.x == 3) {
                           __syncthreads();
                         } else {
                           __shfl_sync(0xffffffffu, 1, 0);
                         }
                       }),
               "will not come");
}

TEST(GridDeathTest, RefusesPartialMasks) {
  EXPECT_DEATH(RunGrid(1, 32, 0, [] { __syncwarp(0xffu); }), "only whole warps");
}

}  // namespace
}  // namespace orrery
