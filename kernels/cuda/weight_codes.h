// Codes of a weight on their way into products: what a lane loads in one piece, and what the codes of
// each format mean. For kernels; the layout is drawn in tiled_weight.h.
#ifndef ORRERY_KERNELS_CUDA_WEIGHT_CODES_H_
#define ORRERY_KERNELS_CUDA_WEIGHT_CODES_H_

#include <cuda_runtime.h>

#include <bit>
#include <cstdint>

#include "base/dtypes.h"
#include "kernels/cuda/job_array.h"
#include "kernels/cuda/matmul_jobs.h"

namespace orrery {

// Of a step: eight codes of output g, eight of output g + 8.
template <CodeFormat format>
struct alignas(format == CodeFormat::kInt4 ? 8 : 16) LaneCodes {
  uint32_t half[2][kLaneInputs * BitsOfCode(format) / 32];
};

template <CodeFormat format>
__device__ const LaneCodes<format>* CodesAt(const DeviceWeight& weight, int tile, int step,
                                            int lane) {
  return reinterpret_cast<const LaneCodes<format>*>(weight.codes) +
         (static_cast<int64_t>(tile) * weight.num_steps + step) * 32 + lane;
}

// The upper halves of two f32.
__device__ inline uint32_t PairOfExact(float low, float high) {
  return std::bit_cast<uint32_t>(low) >> 16 | (std::bit_cast<uint32_t>(high) & 0xffff0000u);
}

// Eight codes of one output as pairs of bf16, which hold each of them exactly.
template <CodeFormat format>
struct Codes;

template <>
struct Codes<CodeFormat::kBf16> {
  __device__ static FourWords Pairs(const uint32_t (&codes)[4]) {
    return {{codes[0], codes[1], codes[2], codes[3]}};
  }
};

// Eight codes of a byte each, which say their values, as pairs.
template <typename Code>
__device__ FourWords PairsOfBytes(const uint32_t (&codes)[2]) {
  FourWords pairs;
  for (int i = 0; i < 4; ++i) {
    const uint32_t two = codes[i / 2] >> (i % 2 * 16);
    pairs.word[i] = PairOfExact(Code::Value(two), Code::Value(two >> 8));
  }
  return pairs;
}

template <>
struct Codes<CodeFormat::kFp8> {
  // A normal code's exponent and mantissa in the place of an f32's, which counts exponents from 127
  // instead of 7. A denormal code is a mantissa without its leading one: put it there, and take
  // it away again as a number.
  __device__ static float Value(uint32_t code) {
    const uint32_t magnitude = code & 0x7fu;
    const bool is_denormal = magnitude < 8;
    const uint32_t exponent = is_denormal ? 121u << 23 : 120u << 23;
    const float value =
        std::bit_cast<float>(exponent + (magnitude << 20)) - (is_denormal ? 0x1p-6f : 0.0f);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | (code & 0x80u) << 24);
  }
  __device__ static FourWords Pairs(const uint32_t (&codes)[2]) {
    return PairsOfBytes<Codes>(codes);
  }
};

template <>
struct Codes<CodeFormat::kInt8> {
  // The code is the last byte of a number of 2^23 and more.
  __device__ static float Value(uint32_t code) {
    return std::bit_cast<float>(0x4b000000u | ((code & 0xffu) ^ 0x80u)) - (0x1p23f + 128.0f);
  }
  __device__ static FourWords Pairs(const uint32_t (&codes)[2]) {
    return PairsOfBytes<Codes>(codes);
  }
};

template <>
struct Codes<CodeFormat::kInt4> {
  __device__ static float Value(uint32_t code) {
    return std::bit_cast<float>(0x4b000000u | ((code & 15u) ^ 8u)) - (0x1p23f + 8.0f);
  }
  __device__ static FourWords Pairs(const uint32_t (&codes)[1]) {
    FourWords pairs;
    for (int i = 0; i < 4; ++i) {
      pairs.word[i] = PairOfExact(Value(codes[0] >> (8 * i)), Value(codes[0] >> (8 * i + 4)));
    }
    return pairs;
  }
};

// Eight codes of one output as f32.
template <CodeFormat format>
__device__ void ToValues(const uint32_t (&codes)[kLaneInputs * BitsOfCode(format) / 32],
                         float (&values)[kLaneInputs]) {
  if constexpr (format == CodeFormat::kF32) {
    for (int i = 0; i < kLaneInputs; ++i) values[i] = std::bit_cast<float>(codes[i]);
  } else {
    const FourWords pairs = Codes<format>::Pairs(codes);
    for (int i = 0; i < kLaneInputs; ++i) {
      const uint32_t pair = pairs.word[i / 2];
      values[i] = std::bit_cast<float>(i % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
    }
  }
}

// Of an fp8 weight's output, one for each block of inputs. Padding has those of the last output.
__device__ inline const float* ScalesOf(const DeviceWeight& weight, int output) {
  const int last = weight.num_outputs - 1;
  const int row = (output < last ? output : last) / weight.scale_block_outputs;
  return reinterpret_cast<const float*>(weight.scales) +
         static_cast<int64_t>(row) * weight.num_blocks;
}

// What a block of inputs is multiplied with after it was summed.
template <CodeFormat format>
__device__ float Scale(const DeviceWeight& weight, int output, int block) {
  if constexpr (format == CodeFormat::kFp8) {
    return ScalesOf(weight, output)[block];
  } else if constexpr (format == CodeFormat::kInt8 || format == CodeFormat::kInt4) {
    const int64_t blocks = static_cast<int64_t>(output / kTileOutputs) * weight.num_blocks + block;
    return Bf16ToF32(reinterpret_cast<const uint16_t*>(
        weight.scales)[blocks * kTileOutputs + output % kTileOutputs]);
  } else {
    return 1.0f;
  }
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_WEIGHT_CODES_H_
