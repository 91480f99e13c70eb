// Sixteen f32 lanes in plain C++: what every operation means. lanes_avx2.h and lanes_avx512.h do
// the same in registers, bit for bit, and the kernels (*-inl.h) are templates over the three types.
//
// Operations run with denormals flushed (ScopedFlushDenormals). Loads and stores take any
// alignment.
//
// The rule of these headers and of everything that lane_kernels_*.cc includes: no inline function
// that is not a template over Lanes or a member of one of these types, so nothing of the standard
// library or of base/. The linker keeps one copy of an inline function, and the copy compiled for
// AVX-512 would then serve every machine.
#ifndef ORRERY_KERNELS_CPU_LANES_SCALAR_H_
#define ORRERY_KERNELS_CPU_LANES_SCALAR_H_

#include <stdint.h>

namespace orrery::isa_scalar {

struct Lanes {
  // What a tile of sums keeps in registers: at most so many rows, rows times panels, and panels.
  static constexpr int kTileRows = 2;
  static constexpr int kTileSums = 2;
  static constexpr int kTilePanels = 2;
  // With more sums than these, the chain of the even inputs comes first, and then that of the odd ones.
  static constexpr int kMaxSumsOfBothChains = kTileSums;
  // Whether pairs of bf16 can be multiplied without widening them: see lanes_avx512.h.
  static constexpr bool kDotsBf16 = false;
  static constexpr const char* kName = "scalar";

  float lane[16];

  static Lanes Set(float value) {
    return Make([&](int) { return value; });
  }
  static Lanes Load(const float* from) { return LoadFirst(from, 16, 0.0f); }
  // The first num (0..16) lanes, then fill.
  static Lanes LoadFirst(const float* from, int num, float fill) {
    Lanes result = Set(fill);
    __builtin_memcpy(result.lane, from, num * sizeof(float));
    return result;
  }
  // 32-bit words of any kind.
  static Lanes LoadBits(const void* from) { return Load(static_cast<const float*>(from)); }
  void Store(float* to) const { StoreFirst(to, 16); }
  void StoreBits(void* to) const { Store(static_cast<float*>(to)); }
  void StoreFirst(float* to, int num) const { __builtin_memcpy(to, lane, num * sizeof(float)); }

  // 16 bf16 values, exactly.
  static Lanes LoadBf16(const uint16_t* from) {
    return Make([&](int i) { return FromBits(static_cast<uint32_t>(from[i]) << 16); });
  }
  // Upper halves; the value comes from RoundToBf16.
  void StoreBf16(uint16_t* to) const {
    for (int i = 0; i < 16; ++i) to[i] = static_cast<uint16_t>(Bits(lane[i]) >> 16);
  }
  // 16 codes of fp8 (e4m3) to f32, and back: nearest even, at most 448, NaN is 0x7f.
  static Lanes LoadFp8(const uint8_t* from) {
    return Make([&](int i) {
      return (from[i] & 0x7fu) == 0x7fu ? FromBits(0x7fc00000u) : FromFp8(from[i]);
    });
  }
  void StoreFp8(uint8_t* to) const {
    for (int i = 0; i < 16; ++i) {
      const uint32_t magnitude = Bits(lane[i]) & 0x7fffffffu;
      // A multiple of 2^-9: beside 2^14, f32 has no smaller steps. Else the mantissa is rounded to 3
      // bits.
      const uint32_t tiny = Bits(FromBits(magnitude) + 0x1p14f) & 0xfu;
      const uint32_t normal =
          ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
      uint32_t code = magnitude < Bits(0x1p-6f) ? tiny : normal;
      if (magnitude >= Bits(448.0f)) code = 0x7e;
      code |= (Bits(lane[i]) >> 24) & 0x80u;
      to[i] = static_cast<uint8_t>(magnitude > 0x7f800000u ? 0x7fu : code);
    }
  }
  // Words of two bf16 values each: the low halves, and the high ones.
  static void SplitBf16(Lanes pairs, Lanes& low, Lanes& high) {
    low = Make([&](int i) { return FromBits(Bits(pairs.lane[i]) << 16); });
    high = Make([&](int i) { return FromBits(Bits(pairs.lane[i]) & 0xffff0000u); });
  }
  // Codes of the inputs of one chain, of a group of 64 bytes (operands-inl.h): 16 words of two codes,
  // as exact f32 values of the first ones and of the second ones. fp8: e4m3, no NaN. int8: sign and
  // magnitude.
  static void SplitFp8(const uint8_t* group, int chain, Lanes& low, Lanes& high) {
    low = Make([&](int i) { return FromFp8(CodeAt(group, chain, 2 * i)); });
    high = Make([&](int i) { return FromFp8(CodeAt(group, chain, 2 * i + 1)); });
  }
  static void SplitInt8(const uint8_t* group, int chain, Lanes& low, Lanes& high) {
    low = Make([&](int i) { return FromInt8(CodeAt(group, chain, 2 * i)); });
    high = Make([&](int i) { return FromInt8(CodeAt(group, chain, 2 * i + 1)); });
  }
  // The same of 16 bytes of two codes of 4 bits, each 8 more than its value.
  static void SplitInt4(const uint8_t* bytes, Lanes& low, Lanes& high) {
    low = Make([&](int i) { return static_cast<float>((bytes[i] & 15) - 8); });
    high = Make([&](int i) { return static_cast<float>((bytes[i] >> 4) - 8); });
  }

  friend Lanes operator+(Lanes a, Lanes b) {
    return Make([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  friend Lanes operator-(Lanes a, Lanes b) {
    return Make([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  friend Lanes operator*(Lanes a, Lanes b) {
    return Make([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  friend Lanes operator/(Lanes a, Lanes b) {
    return Make([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  // a * b + c, rounded once.
  static Lanes Fma(Lanes a, Lanes b, Lanes c) {
    return Make([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
  }
  // b where either is a NaN.
  static Lanes Max(Lanes a, Lanes b) {
    return Make([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  // a < b ? x : y, and y where either is a NaN.
  static Lanes SelectLess(Lanes a, Lanes b, Lanes x, Lanes y) {
    return Make([&](int i) { return a.lane[i] < b.lane[i] ? x.lane[i] : y.lane[i]; });
  }
  // 2^n for whole n in -126..127; anything for other n. Adding 1.5 * 2^23 + 127 leaves n + 127 in
  // the low bits.
  static Lanes TwoTo(Lanes n) {
    return Make([&](int i) { return FromBits(Bits(n.lane[i] + (0x1.8p23f + 127.0f)) << 23); });
  }
  // Nearest even, denormals flushed, NaN stays a (quiet) NaN.
  static Lanes RoundToBf16(Lanes a) {
    return Make([&](int i) {
      const uint32_t bits = Bits(a.lane[i]);
      if ((bits & 0x7fffffffu) > 0x7f800000u) return FromBits((bits | 0x400000u) & 0xffff0000u);
      if ((bits & 0x7f800000u) == 0) return FromBits(bits & 0x80000000u);
      return FromBits((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
    });
  }

  // rows[i].lane[j] and rows[j].lane[i] change places.
  static void Transpose(Lanes (&rows)[16]) {
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < i; ++j) {
        const float other = rows[j].lane[i];
        rows[j].lane[i] = rows[i].lane[j];
        rows[i].lane[j] = other;
      }
    }
  }

 private:
  template <typename F>
  static Lanes Make(F value_of) {
    Lanes result;
    for (int i = 0; i < 16; ++i) result.lane[i] = value_of(i);
    return result;
  }
  static uint32_t CodeAt(const uint8_t* group, int chain, int i) {
    return group[i / 8 * 16 + chain * 8 + i % 8];
  }
  static float FromInt8(uint32_t code) {
    const float magnitude = static_cast<float>(code & 0x7fu);
    return code & 0x80u ? -magnitude : magnitude;
  }
  static float FromFp8(uint32_t code) {
    const uint32_t exponent = (code >> 3) & 0xfu;
    const float magnitude = exponent == 0 ? static_cast<float>(code & 7u) * 0x1p-9f
                                          : FromBits(((code & 0x7fu) << 20) + (120u << 23));
    return code & 0x80u ? -magnitude : magnitude;
  }
  static uint32_t Bits(float value) { return __builtin_bit_cast(uint32_t, value); }
  static float FromBits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
};

}  // namespace orrery::isa_scalar

#endif  // ORRERY_KERNELS_CPU_LANES_SCALAR_H_
