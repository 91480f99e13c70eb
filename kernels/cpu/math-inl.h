// exp and its kin over lanes, and the loop over a row with a ragged end.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_MATH_INL_H_
#define ORRERY_KERNELS_CPU_MATH_INL_H_

#include <stdint.h>

#include "kernels/cpu/lane_kernels.h"

namespace orrery {

template <typename Lanes>
constexpr int RoundUpTo(int unit, int num) {
  return (num + unit - 1) / unit * unit;
}

// Calls body(index, num) for steps of 16 values; num is 16 but in the last one. (A body that sees
// the constant 16 after inlining has no branch.)
template <typename Lanes, typename Body>
inline void ForEachStep(int num, Body body) {
  int index = 0;
  for (; index + kVectorLanes <= num; index += kVectorLanes) body(index, kVectorLanes);
  if (index < num) body(index, num - index);
}

template <typename Lanes>
inline Lanes LoadStep(const float* from, int num, float fill = 0.0f) {
  return num == kVectorLanes ? Lanes::Load(from) : Lanes::LoadFirst(from, num, fill);
}

// The first num (1..16) bf16 values, then zeros.
template <typename Lanes>
inline Lanes LoadBf16Step(const uint16_t* from, int num) {
  if (num == kVectorLanes) return Lanes::LoadBf16(from);
  uint16_t bits[kVectorLanes] = {};
  __builtin_memcpy(bits, from, num * sizeof(uint16_t));
  return Lanes::LoadBf16(bits);
}

// Words of the first num (1..32) bf16 values, two each, then zeros.
template <typename Lanes>
inline Lanes LoadBf16Words(const uint16_t* from, int num) {
  if (num == 2 * kVectorLanes) return Lanes::LoadBits(from);
  if (num % 2 == 0) return Lanes::LoadFirst(reinterpret_cast<const float*>(from), num / 2, 0.0f);
  uint16_t bits[2 * kVectorLanes] = {};
  __builtin_memcpy(bits, from, num * sizeof(uint16_t));
  return Lanes::LoadBits(bits);
}

template <typename Lanes>
inline void StoreStep(Lanes lanes, int num, float* to) {
  if (num == kVectorLanes) {
    lanes.Store(to);
  } else {
    lanes.StoreFirst(to, num);
  }
}

// The sum of the lanes as a fixed tree: i + (i + 8), then + 4, + 2, + 1.
template <typename Lanes>
inline float SumLanes(Lanes lanes) {
  float values[kVectorLanes];
  lanes.Store(values);
  for (int width = kVectorLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) values[i] = values[i] + values[i + width];
  }
  return values[0];
}

// (Which order does not matter.)
template <typename Lanes>
inline float MaxLane(Lanes lanes) {
  float values[kVectorLanes];
  lanes.Store(values);
  for (int width = kVectorLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      values[i] = values[i] > values[i + width] ? values[i] : values[i + width];
    }
  }
  return values[0];
}

// Within 2 ulp. 0 below ln(2^-126), where the result would be denormal, and infinity above
// ln(largest f32).
//
// x = n ln 2 + r with |r| <= 0.3466; the series of exp(r) to r^7 leaves r^8 / 8! < 5.2e-9. 2^n is
// applied in two halves, because 2^128 is no f32.
template <typename Lanes>
inline Lanes Exp(Lanes x) {
  const Lanes to_whole = Lanes::Set(0x1.8p23f);  // adding it leaves a whole number, nearest even
  const Lanes n = Lanes::Fma(x, Lanes::Set(0x1.715476p0f), to_whole) - to_whole;
  // ln 2 = 0x1.62e43p-1 - 0x1.05c61p-29.
  Lanes r = Lanes::Fma(n, Lanes::Set(-0x1.62e43p-1f), x);
  r = Lanes::Fma(n, Lanes::Set(0x1.05c61p-29f), r);
  constexpr float kInverseFactorials[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6,
                                          0.5f,       1.0f,       1.0f};
  Lanes series = Lanes::Set(1.0f / 5040);
  for (const float coefficient : kInverseFactorials) {
    series = Lanes::Fma(series, r, Lanes::Set(coefficient));
  }
  const Lanes half = Lanes::Fma(n, Lanes::Set(0.5f), to_whole) - to_whole;
  Lanes result = series * Lanes::TwoTo(half) * Lanes::TwoTo(n - half);
  result = Lanes::SelectLess(x, Lanes::Set(-0x1.5d589ep6f), Lanes::Set(0.0f), result);
  return Lanes::SelectLess(Lanes::Set(0x1.62e42ep6f), x, Lanes::Set(__builtin_inff()), result);
}

// 1 / (1 + exp(-x)): 0 and 1 at the ends.
template <typename Lanes>
inline Lanes Sigmoid(Lanes x) {
  const Lanes one = Lanes::Set(1.0f);
  return one / (one + Exp(Lanes::Set(0.0f) - x));
}

template <typename Lanes>
inline Lanes Silu(Lanes x) {
  return x / (Lanes::Set(1.0f) + Exp(Lanes::Set(0.0f) - x));
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_MATH_INL_H_
