// Sixteen f32 lanes in one AVX-512 register. lanes_scalar.h says what each operation means, and
// which rule this header follows.
//
//   LanesOf<false>   AVX512F is enough
//   LanesOf<true>    also multiplies pairs of bf16 (AVX512_BF16): two products per lane at once, and
//                    looks codes up in tables (AVX512_VBMI)
//
// VDPBF16PS is fma(low, low, fma(high, high, sum)), both steps rounded to nearest even with
// denormals flushed (Intel's Software Developer's Manual; AMD's processors do the same): two steps
// of a chain, if the first factor of the chain is the high half. VCVTNEPS2BF16 rounds to nearest
// even too, flushes denormals and quiets NaN.
#ifndef ORRERY_KERNELS_CPU_LANES_AVX512_H_
#define ORRERY_KERNELS_CPU_LANES_AVX512_H_

#include <immintrin.h>
#include <stdint.h>

namespace orrery::isa_avx512 {

template <bool kHasBf16Products>
struct LanesOf {
  // 4 sums are 8 chains (even, odd): an FMA has a latency of 4, and one or two can start per cycle.
  // Products of pairs take 6 cycles, but leave registers free: 16 chains, and a panel is loaded
  // half as often. Either way a row alone takes 4 panels at once.
  static constexpr int kTileRows = 4;
  static constexpr int kTileSums = kHasBf16Products ? 8 : 4;
  static constexpr int kTilePanels = 4;
  static constexpr int kMaxSumsOfBothChains = kTileSums;
  static constexpr bool kDotsBf16 = kHasBf16Products;
  static constexpr const char* kName = kHasBf16Products ? "avx512bf16" : "avx512";

  __m512 all;

  static LanesOf Set(float value) { return {_mm512_set1_ps(value)}; }
  static LanesOf Load(const float* from) { return {_mm512_loadu_ps(from)}; }
  static LanesOf LoadFirst(const float* from, int num, float fill) {
    return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), FirstLanes(num), from)};
  }
  static LanesOf LoadBits(const void* from) { return FromBits(_mm512_loadu_si512(from)); }
  void StoreBits(void* to) const { _mm512_storeu_si512(to, bits()); }
  void Store(float* to) const { _mm512_storeu_ps(to, all); }
  void StoreFirst(float* to, int num) const { _mm512_mask_storeu_ps(to, FirstLanes(num), all); }

  static LanesOf LoadBf16(const uint16_t* from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return FromBits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  void StoreBf16(uint16_t* to) const {
    const __m512i upper = _mm512_srli_epi32(bits(), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(upper));
  }
  static LanesOf LoadFp8(const uint8_t* from) {
    const __m512i codes =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    const __m512i seven_bits = _mm512_set1_epi32(0x7f);
    const __mmask16 is_nan =
        _mm512_cmpeq_epi32_mask(_mm512_and_si512(codes, seven_bits), seven_bits);
    return FromBits(
        _mm512_mask_blend_epi32(is_nan, FromFp8(codes).bits(), _mm512_set1_epi32(0x7fc00000)));
  }
  void StoreFp8(uint8_t* to) const {
    const __m512i magnitude = _mm512_and_si512(bits(), _mm512_set1_epi32(0x7fffffff));
    const __m512 shifted = _mm512_add_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(0x1p14f));
    const __m512i tiny = _mm512_and_si512(_mm512_castps_si512(shifted), _mm512_set1_epi32(0xf));
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(magnitude, 20), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(magnitude, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ffff)));
    const __m512i normal =
        _mm512_sub_epi32(_mm512_srli_epi32(rounded, 20), _mm512_set1_epi32(120 << 3));
    const __mmask16 is_tiny =
        _mm512_cmplt_epi32_mask(magnitude, _mm512_castps_si512(_mm512_set1_ps(0x1p-6f)));
    const __mmask16 is_large =
        _mm512_cmpge_epi32_mask(magnitude, _mm512_castps_si512(_mm512_set1_ps(448.0f)));
    const __mmask16 is_nan = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000));
    __m512i code = _mm512_mask_blend_epi32(is_tiny, normal, tiny);
    code = _mm512_mask_blend_epi32(is_large, code, _mm512_set1_epi32(0x7e));
    const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits(), 24), _mm512_set1_epi32(0x80));
    code = _mm512_mask_blend_epi32(is_nan, _mm512_or_si512(code, sign), _mm512_set1_epi32(0x7f));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(code));
  }
  static void SplitBf16(LanesOf pairs, LanesOf& low, LanesOf& high) {
    low = FromBits(_mm512_slli_epi32(pairs.bits(), 16));
    high = FromBits(_mm512_and_si512(pairs.bits(), UpperHalves()));
  }
  static void SplitFp8(const uint8_t* group, int chain, LanesOf& low, LanesOf& high) {
    const __m512i words = Words(group, chain);
    low = FromFp8(words);
    high = FromFp8(_mm512_srli_epi32(words, 8));
  }
  static void SplitInt8(const uint8_t* group, int chain, LanesOf& low, LanesOf& high) {
    const __m512i words = Words(group, chain);
    low = FromInt8(words);
    high = FromInt8(_mm512_srli_epi32(words, 8));
  }
  static void SplitInt4(const uint8_t* bytes, LanesOf& low, LanesOf& high) {
    const __m512i codes =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    low = {_mm512_permutexvar_ps(codes, values)};  // by the lowest 4 bits
    high = {_mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4), values)};
  }

  // For kDotsBf16: the codes of one chain as 16 words of two bf16, looked up by magnitude; a pair in
  // every lane; pairs of the upper or lower halves of lanes, the first in the high half; sum + the
  // two products of a pair.
  static LanesOf LookUpFp8(const uint8_t* group, int chain) {
    return LookUp(group, chain, kFp8Values);
  }
  static LanesOf LookUpInt8(const uint8_t* group, int chain) {
    return LookUp(group, chain, kInt8Values);
  }
  // The codes of a group as pairs in the order of the inputs: of the inputs 0 and 1, of 2 and 3.
  static void LookUpFp8InOrder(const uint8_t* group, LanesOf& first, LanesOf& last) {
    LookUpInOrder(group, kFp8Values, first, last);
  }
  static void LookUpInt8InOrder(const uint8_t* group, LanesOf& first, LanesOf& last) {
    LookUpInOrder(group, kInt8Values, first, last);
  }
  static LanesOf SetPair(const uint16_t* pair) {
    int bits;
    __builtin_memcpy(&bits, pair, sizeof(bits));
    __m512i lanes = _mm512_set1_epi32(bits);
    // Keeps the pair in a register: the compiler would have each product read it from memory anew.
    asm("" : "+v"(lanes));
    return FromBits(lanes);
  }
  static LanesOf JoinUpper(LanesOf first, LanesOf second) {
    return Join(first.bits(), _mm512_srli_epi32(second.bits(), 16), UpperHalves());
  }
  static LanesOf JoinLower(LanesOf first, LanesOf second) {
    return Join(second.bits(), _mm512_slli_epi32(first.bits(), 16), _mm512_set1_epi32(0xffff));
  }
  // The pairs of both chains of a group, as pairs in the order of the inputs.
  static void PutInOrder(LanesOf even, LanesOf odd, LanesOf& first, LanesOf& last) {
    first = JoinUpper(odd, even);
    last = JoinLower(odd, even);
  }
  // Pairs of the first 16 of 32 halves, and of the last 16.
  static LanesOf JoinFirst(LanesOf first, LanesOf second) { return JoinFrom(0, first, second); }
  static LanesOf JoinLast(LanesOf first, LanesOf second) { return JoinFrom(16, first, second); }
  static LanesOf AddDot(LanesOf a, LanesOf b, LanesOf sum) {
    return {_mm512_dpbf16_ps(sum.all, reinterpret_cast<__m512bh>(a.all),
                             reinterpret_cast<__m512bh>(b.all))};
  }
  // Of 16 values x, the pairs (low x[4i + 2], high x[4i]) and (low x[4i + 3], high x[4i + 1]).
  void StorePairs(uint16_t* to) const {
    const LanesOf later = {_mm512_permute_ps(all, 0xee)};
    const __m512i first_halves = _mm512_setr_epi64(0, 2, 4, 6, 0, 0, 0, 0);
    const __m512i pairs = _mm512_permutexvar_epi64(first_halves, JoinUpper(*this, later).bits());
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(pairs));
  }

  // 32 values in the order of a row to the same pairs.
  static LanesOf PairsOf(LanesOf row) {
    const __m128i order = _mm_setr_epi8(4, 5, 0, 1, 6, 7, 2, 3, 12, 13, 8, 9, 14, 15, 10, 11);
    return FromBits(_mm512_shuffle_epi8(row.bits(), _mm512_broadcast_i32x4(order)));
  }

  friend LanesOf operator+(LanesOf a, LanesOf b) { return {_mm512_add_ps(a.all, b.all)}; }
  friend LanesOf operator-(LanesOf a, LanesOf b) { return {_mm512_sub_ps(a.all, b.all)}; }
  friend LanesOf operator*(LanesOf a, LanesOf b) { return {_mm512_mul_ps(a.all, b.all)}; }
  friend LanesOf operator/(LanesOf a, LanesOf b) { return {_mm512_div_ps(a.all, b.all)}; }
  static LanesOf Fma(LanesOf a, LanesOf b, LanesOf c) {
    return {_mm512_fmadd_ps(a.all, b.all, c.all)};
  }
  static LanesOf Max(LanesOf a, LanesOf b) { return {_mm512_max_ps(a.all, b.all)}; }
  static LanesOf SelectLess(LanesOf a, LanesOf b, LanesOf x, LanesOf y) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.all, b.all, _CMP_LT_OQ), y.all, x.all)};
  }
  static LanesOf TwoTo(LanesOf n) {
    return FromBits(_mm512_slli_epi32((n + Set(0x1.8p23f + 127.0f)).bits(), 23));
  }
  static LanesOf RoundToBf16(LanesOf a) {
    if constexpr (kHasBf16Products) {
      const __m256i rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a.all));
      return FromBits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
    }
    const __m512i bits = a.bits();
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    // A zero exponent: keep the sign only.
    const __mmask16 is_tiny = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
    const __m512i sign = _mm512_set1_epi32(static_cast<int>(0x80000000u));
    rounded = _mm512_mask_and_epi32(rounded, is_tiny, bits, sign);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(a.all, a.all, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x400000));
    return FromBits(_mm512_and_si512(rounded, UpperHalves()));
  }

  // Pairs of rows, then of pairs of rows, exchange what lies across their diagonals; then the
  // 128-bit quarters do.
  static void Transpose(LanesOf (&rows)[16]) {
    __m512 quads[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
      const __m512 low01 = _mm512_unpacklo_ps(rows[i].all, rows[i + 1].all);
      const __m512 high01 = _mm512_unpackhi_ps(rows[i].all, rows[i + 1].all);
      const __m512 low23 = _mm512_unpacklo_ps(rows[i + 2].all, rows[i + 3].all);
      const __m512 high23 = _mm512_unpackhi_ps(rows[i + 2].all, rows[i + 3].all);
      quads[i] = _mm512_shuffle_ps(low01, low23, 0x44);
      quads[i + 1] = _mm512_shuffle_ps(low01, low23, 0xee);
      quads[i + 2] = _mm512_shuffle_ps(high01, high23, 0x44);
      quads[i + 3] = _mm512_shuffle_ps(high01, high23, 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512 even0 = _mm512_shuffle_f32x4(quads[i], quads[i + 4], 0x88);
      const __m512 odd0 = _mm512_shuffle_f32x4(quads[i], quads[i + 4], 0xdd);
      const __m512 even1 = _mm512_shuffle_f32x4(quads[i + 8], quads[i + 12], 0x88);
      const __m512 odd1 = _mm512_shuffle_f32x4(quads[i + 8], quads[i + 12], 0xdd);
      rows[i] = {_mm512_shuffle_f32x4(even0, even1, 0x88)};
      rows[i + 4] = {_mm512_shuffle_f32x4(odd0, odd1, 0x88)};
      rows[i + 8] = {_mm512_shuffle_f32x4(even0, even1, 0xdd)};
      rows[i + 12] = {_mm512_shuffle_f32x4(odd0, odd1, 0xdd)};
    }
  }

 private:
  // The bytes of the bf16 that a magnitude of 7 bits means.
  struct ByteValues {
    alignas(64) uint8_t low[128];
    alignas(64) uint8_t high[128];
  };
  template <typename ValueOf>
  static constexpr ByteValues MakeValues(ValueOf value_of) {
    ByteValues values = {};
    for (int i = 0; i < 128; ++i) {
      const int bits = value_of(i);
      values.low[i] = static_cast<uint8_t>(bits & 0xff);
      values.high[i] = static_cast<uint8_t>(bits >> 8);
    }
    return values;
  }
  // mantissa * 2^(exponent - 127), shifted until its leading 1 is the hidden one; 0 for 0.
  static constexpr int Bf16Of(int mantissa, int exponent) {
    if (mantissa == 0) return 0;
    int shift = 0;
    while (mantissa << shift < 0x80) ++shift;
    return (exponent + 7 - shift) << 7 | ((mantissa << shift) & 0x7f);
  }
  // An e4m3 without exponent counts in 2^-9; else the leading 1 stands 3 bits higher.
  static constexpr ByteValues kFp8Values = MakeValues([](int code) {
    return code < 8 ? Bf16Of(code, 127 - 9) : Bf16Of(8 + code % 8, 127 - 9 + code / 8 - 1);
  });
  static constexpr ByteValues kInt8Values = MakeValues([](int code) { return Bf16Of(code, 127); });

  // The bytes of the values of codes.
  static void LookUpBytes(__m512i codes, const ByteValues& values, __m512i& low, __m512i& high) {
    low = _mm512_permutex2var_epi8(_mm512_load_si512(values.low), codes,
                                   _mm512_load_si512(values.low + 64));
    const __m512i magnitude = _mm512_permutex2var_epi8(_mm512_load_si512(values.high), codes,
                                                       _mm512_load_si512(values.high + 64));
    // Two steps, because the compiler would not: on Zen 4 one ternary step takes a unit that products
    // need, and these two do not.
    __m512i sign = _mm512_and_si512(codes, _mm512_set1_epi8(static_cast<char>(0x80)));
    asm("" : "+v"(sign));
    high = _mm512_or_si512(magnitude, sign);
  }
  static LanesOf LookUp(const uint8_t* group, int chain, const ByteValues& values) {
    __m512i low, high;
    LookUpBytes(_mm512_loadu_si512(group), values, low, high);
    return FromBits(chain == 0 ? _mm512_unpacklo_epi8(low, high) : _mm512_unpackhi_epi8(low, high));
  }
  static void LookUpInOrder(const uint8_t* group, const ByteValues& values, LanesOf& first,
                            LanesOf& last) {
    // Of four outputs: the inputs 0 and 1 of each, then 2 and 3.
    const __m128i order = _mm_setr_epi8(1, 9, 3, 11, 5, 13, 7, 15, 0, 8, 2, 10, 4, 12, 6, 14);
    const __m512i codes =
        _mm512_shuffle_epi8(_mm512_loadu_si512(group), _mm512_broadcast_i32x4(order));
    __m512i low, high;
    LookUpBytes(codes, values, low, high);
    first = FromBits(_mm512_unpacklo_epi8(low, high));
    last = FromBits(_mm512_unpackhi_epi8(low, high));
  }
  // 16 words of one chain, from 64 bytes of both.
  static __m512i Words(const uint8_t* group, int chain) {
    const __m512i quads =
        _mm512_add_epi64(_mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6), _mm512_set1_epi64(chain));
    const __m512i both = _mm512_loadu_si512(group);
    return _mm512_cvtepu16_epi32(_mm512_castsi512_si256(_mm512_permutexvar_epi64(quads, both)));
  }
  // Of the lowest byte: sign and magnitude.
  static LanesOf FromInt8(__m512i codes) {
    const __m512 magnitude = _mm512_cvtepi32_ps(_mm512_and_si512(codes, _mm512_set1_epi32(0x7f)));
    const __m512i sign = _mm512_set1_epi32(static_cast<int>(0x80000000u));
    return FromBits(_mm512_ternarylogic_epi32(_mm512_castps_si512(magnitude),
                                              _mm512_slli_epi32(codes, 24), sign, 0xf8));
  }
  __m512i bits() const { return _mm512_castps_si512(all); }
  static LanesOf FromBits(__m512i bits) { return {_mm512_castsi512_ps(bits)}; }
  // Of the lowest byte. A zero exponent: as if it were 1, less the leading 1 that is not there.
  static LanesOf FromFp8(__m512i codes) {
    const __m512i magnitude =
        _mm512_and_si512(_mm512_slli_epi32(codes, 20), _mm512_set1_epi32(0x7f00000));
    const __m512 normal =
        _mm512_castsi512_ps(_mm512_add_epi32(magnitude, _mm512_set1_epi32(120 << 23)));
    const __m512 next =
        _mm512_castsi512_ps(_mm512_add_epi32(magnitude, _mm512_set1_epi32(121 << 23)));
    const __mmask16 is_tiny = _mm512_testn_epi32_mask(codes, _mm512_set1_epi32(0x78));
    const __m512 value = _mm512_mask_sub_ps(normal, is_tiny, next, _mm512_set1_ps(0x1p-6f));
    const __m512i sign = _mm512_set1_epi32(static_cast<int>(0x80000000u));
    return FromBits(_mm512_ternarylogic_epi32(_mm512_castps_si512(value),
                                              _mm512_slli_epi32(codes, 24), sign, 0xf8));
  }
  // Lane i: first's half begin + i above second's.
  static LanesOf JoinFrom(int begin, LanesOf first, LanesOf second) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i half = _mm512_add_epi32(lane, _mm512_set1_epi32(begin));
    // Halves of the second operand are numbered from 32.
    const __m512i pair = _mm512_add_epi32(_mm512_slli_epi32(half, 16),
                                          _mm512_add_epi32(half, _mm512_set1_epi32(32)));
    return FromBits(_mm512_permutex2var_epi16(first.bits(), pair, second.bits()));
  }
  // (a & mask) | b
  static LanesOf Join(__m512i a, __m512i b, __m512i mask) {
    return FromBits(_mm512_ternarylogic_epi32(b, a, mask, 0xf8));
  }
  static __m512i UpperHalves() { return _mm512_set1_epi32(static_cast<int>(0xffff0000u)); }
  static __mmask16 FirstLanes(int num) { return static_cast<__mmask16>((1u << num) - 1); }
};

}  // namespace orrery::isa_avx512

#endif  // ORRERY_KERNELS_CPU_LANES_AVX512_H_
