// exp and its kin, and sums and maxima over the threads of a block, each in one order. For kernels.
//
// Built with --fmad=false, so that only fmaf fuses, -ftz=true, and IEEE division and square root:
// everything here has the same bits on every GPU, and on the host under the stand-in (tests/cuda).
#ifndef ORRERY_KERNELS_CUDA_DEVICE_MATH_H_
#define ORRERY_KERNELS_CUDA_DEVICE_MATH_H_

#include <cuda_runtime.h>

#include <bit>
#include <cstdint>

#include "base/dtypes.h"
#include "kernels/fp8_row_layout.h"

namespace orrery {

inline constexpr int kWarpThreads = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;
// Of every block of ours but the gate's.
inline constexpr int kBlockThreads = 128;
inline constexpr int kBlockWarps = kBlockThreads / kWarpThreads;
inline constexpr float kInfinity = std::bit_cast<float>(0x7f800000u);

__device__ inline int LaneOfThread() { return static_cast<int>(threadIdx.x) % kWarpThreads; }
__device__ inline int WarpOfThread() { return static_cast<int>(threadIdx.x) / kWarpThreads; }

// Nearest even; denormals are flushed, which the arithmetic of integers would not do.
__device__ inline uint16_t FlushedBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7f800000u) == 0) return static_cast<uint16_t>(bits >> 16 & 0x8000u);
  return F32ToBf16(value);
}
// Of a register: the lower index in the low half.
__device__ inline uint32_t PairOfBf16(uint16_t low, uint16_t high) {
  return low | static_cast<uint32_t>(high) << 16;
}

__device__ inline float TwoTo(float whole) {
  return std::bit_cast<float>((static_cast<int32_t>(whole) + 127) << 23);
}

// Within 2 ulp. 0 below ln(2^-126), where the result would be denormal, and infinity above
// ln(largest f32). As kernels/cpu/math-inl.h: x = n ln 2 + r with |r| <= 0.3466; the series of exp(r)
// to r^7 leaves r^8 / 8! < 5.2e-9. 2^n is applied in two halves, because 2^128 is no f32.
__device__ inline float Exp(float x) {
  if (x < -0x1.5d589ep6f) return 0.0f;
  if (x > 0x1.62e42ep6f) return kInfinity;
  if (x != x) return x;
  constexpr float kToWhole = 0x1.8p23f;  // adding it leaves a whole number, nearest even
  const float n = fmaf(x, 0x1.715476p0f, kToWhole) - kToWhole;
  // ln 2 = 0x1.62e43p-1 - 0x1.05c61p-29.
  float r = fmaf(n, -0x1.62e43p-1f, x);
  r = fmaf(n, 0x1.05c61p-29f, r);
  float series = 1.0f / 5040;
  series = fmaf(series, r, 1.0f / 720);
  series = fmaf(series, r, 1.0f / 120);
  series = fmaf(series, r, 1.0f / 24);
  series = fmaf(series, r, 1.0f / 6);
  series = fmaf(series, r, 0.5f);
  series = fmaf(series, r, 1.0f);
  series = fmaf(series, r, 1.0f);
  const float half = fmaf(n, 0.5f, kToWhole) - kToWhole;
  return series * TwoTo(half) * TwoTo(n - half);
}

// Of a positive normal number, in f64: x = 2^n m with m in [0.707, 1.414], and with
// s = (m - 1) / (m + 1), ln m = 2 (s + s^3/3 + ...); the first term left out is 0.172^23 / 23 < 2e-19.
__device__ inline double Log(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const int n = static_cast<int>(bits - 0x3f3504f3u) >> 23;  // 0x3f3504f3 is sqrt(1/2)
  const double m = std::bit_cast<float>(bits - (static_cast<uint32_t>(n) << 23));
  const double s = (m - 1.0) / (m + 1.0), square = s * s;
  double series = 1.0 / 21;
  for (int k = 19; k >= 1; k -= 2) series = series * square + 1.0 / k;
  return n * 0x1.62e42fefa39efp-1 + 2.0 * s * series;
}

__device__ inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }
__device__ inline float Silu(float x) { return x / (1.0f + Exp(-x)); }

__device__ inline float Larger(float a, float b) { return a > b ? a : b; }

// All lanes get the result. Lane i meets i ^ 16, then i ^ 8, 4, 2, 1: a tree in which both sides of
// every sum are the same two numbers.
__device__ inline float SumOfWarp(float value) {
  for (int step = kWarpThreads / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, step);
  }
  return value;
}
__device__ inline float MaxOfWarp(float value) {
  for (int step = kWarpThreads / 2; step > 0; step /= 2) {
    value = Larger(value, __shfl_xor_sync(kAllLanes, value, step));
  }
  return value;
}

// Of a group of fp8 codes, by the largest magnitude of its values.
__device__ inline float Fp8Scale(float largest) {
  return Larger(largest, kFp8SmallestGroupMax) / kFp8Max;
}

// Over a block of kBlockThreads; all threads get the result. The sums of warps are added in order.
__device__ inline float SumOfBlock(float value) {
  __shared__ float sums[kBlockWarps];
  value = SumOfWarp(value);
  if (LaneOfThread() == 0) sums[WarpOfThread()] = value;
  __syncthreads();
  float sum = sums[0];
  for (int warp = 1; warp < kBlockWarps; ++warp) sum += sums[warp];
  __syncthreads();
  return sum;
}
__device__ inline float MaxOfBlock(float value) {
  __shared__ float maxima[kBlockWarps];
  value = MaxOfWarp(value);
  if (LaneOfThread() == 0) maxima[WarpOfThread()] = value;
  __syncthreads();
  float max = maxima[0];
  for (int warp = 1; warp < kBlockWarps; ++warp) max = Larger(max, maxima[warp]);
  __syncthreads();
  return max;
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_DEVICE_MATH_H_
