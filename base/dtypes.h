// Number formats of checkpoints, caches and rows, and their exact conversions from and to f32.
//
//   bf16      the upper half of an f32; conversion rounds to nearest even
//   f16       IEEE half
//   fp8_e4m3  e4m3fn: 1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinity, NaN is 0x7f and 0xff,
//             largest 448, smallest subnormal 2^-9; encoding rounds to nearest even and saturates
//
// These are the scalar definitions; kernels must agree with them bit for bit.
#ifndef ORRERY_BASE_DTYPES_H_
#define ORRERY_BASE_DTYPES_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace orrery {

enum class DType { kF32, kBf16, kF16, kFp8E4m3 };

constexpr int DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kBf16:
    case DType::kF16:
      return 2;
    case DType::kFp8E4m3:
      return 1;
  }
  return 0;
}

constexpr std::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBf16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kFp8E4m3:
      return "fp8_e4m3";
  }
  return "?";
}

constexpr float Bf16ToF32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// Nearest even; NaN stays a (quiet) NaN.
constexpr uint16_t F32ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

constexpr float RoundToBf16(float value) { return Bf16ToF32(F32ToBf16(value)); }

constexpr float F16ToF32(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

constexpr float Fp8E4m3ToF32(uint8_t code) {
  const float sign = (code & 0x80u) ? -1.0f : 1.0f;
  const uint32_t exponent = (code >> 3) & 0xfu;
  const uint32_t mantissa = code & 0x7u;
  if (exponent == 15 && mantissa == 7) return std::bit_cast<float>(0x7fc00000u);
  if (exponent == 0) return sign * static_cast<float>(mantissa) * 0x1p-9f;
  return sign * std::bit_cast<float>(((exponent + 120) << 23) | (mantissa << 20));
}

// Nearest even, saturating to +-448; NaN gives 0x7f.
constexpr uint8_t F32ToFp8E4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint8_t sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7f;
  // 464 lies halfway between 448 and the missing 480: everything from there on saturates, as does
  // 448..464.
  if (magnitude >= std::bit_cast<uint32_t>(448.0f)) return sign | 0x7e;
  if (magnitude < std::bit_cast<uint32_t>(0x1p-6f)) {
    // Subnormal: a multiple of 2^-9. Adding 2^14 makes the f32 unit exactly 2^-9 and rounds to
    // nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;
    return sign | static_cast<uint8_t>(std::bit_cast<uint32_t>(shifted) & 0xfu);
  }
  // Round the 23-bit mantissa to 3 bits; a carry runs into the exponent, as it should.
  const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
  return sign | static_cast<uint8_t>((rounded >> 20) - (120u << 3));
}

}  // namespace orrery

#endif  // ORRERY_BASE_DTYPES_H_
