// Sixteen f32 lanes in two AVX2 registers (with FMA and F16C). lanes_scalar.h says what each operation
// means, and which rule this header follows.
#ifndef ORRERY_KERNELS_CPU_LANES_AVX2_H_
#define ORRERY_KERNELS_CPU_LANES_AVX2_H_

#include <immintrin.h>
#include <stdint.h>

namespace orrery::isa_avx2 {

struct Lanes {
  // 6 rows * 1 panel * 2 registers = 12 of 16 for one chain; an input of weights takes 2, one of
  // activations 1.
  static constexpr int kTileRows = 6;
  static constexpr int kTileSums = 6;
  static constexpr int kTilePanels = 2;
  static constexpr int kMaxSumsOfBothChains = 2;
  static constexpr bool kDotsBf16 = false;
  static constexpr const char* kName = "avx2";

  __m256 low;
  __m256 high;

  static Lanes Set(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Lanes Load(const float* from) {
    return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
  }
  static Lanes LoadFirst(const float* from, int num, float fill) {
    float values[16];
    Set(fill).Store(values);
    __builtin_memcpy(values, from, num * sizeof(float));
    return Load(values);
  }
  static Lanes LoadBits(const void* from) { return Load(static_cast<const float*>(from)); }
  void Store(float* to) const {
    _mm256_storeu_ps(to, low);
    _mm256_storeu_ps(to + 8, high);
  }
  void StoreBits(void* to) const { Store(static_cast<float*>(to)); }
  void StoreFirst(float* to, int num) const {
    float values[16];
    Store(values);
    __builtin_memcpy(to, values, num * sizeof(float));
  }

  static Lanes LoadBf16(const uint16_t* from) {
    return {HalfFromBf16(from), HalfFromBf16(from + 8)};
  }
  void StoreBf16(uint16_t* to) const {
    // The pack works within 128-bit halves; the permutation puts its quarters in order.
    const __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32(_mm256_castps_si256(low), 16),
                                               _mm256_srli_epi32(_mm256_castps_si256(high), 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(packed, 0xd8));
  }
  static Lanes LoadFp8(const uint8_t* from) {
    const __m256i codes =
        _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    const __m256i magnitude = _mm256_set1_epi16(0x7f);
    const __m256i is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(codes, magnitude), magnitude);
    const __m256i halves = HalvesOfFp8(_mm256_slli_epi16(codes, 8));
    return FromHalves(_mm256_blendv_epi8(halves, _mm256_set1_epi16(0x7e00), is_nan));
  }
  void StoreFp8(uint8_t* to) const {
    int codes[16];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), ToFp8(low));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 8), ToFp8(high));
    for (int i = 0; i < 16; ++i) to[i] = static_cast<uint8_t>(codes[i]);
  }
  static void SplitBf16(Lanes pairs, Lanes& low, Lanes& high) {
    low = {ShiftUp(pairs.low, 16), ShiftUp(pairs.high, 16)};
    const __m256 upper = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u)));
    high = {_mm256_and_ps(pairs.low, upper), _mm256_and_ps(pairs.high, upper)};
  }
  static void SplitFp8(const uint8_t* group, int chain, Lanes& low, Lanes& high) {
    // The quarters of one chain have their places in turns: the permutation puts them in order.
    const auto* const from = reinterpret_cast<const __m256i*>(group);
    const __m256i a = _mm256_loadu_si256(from);
    const __m256i b = _mm256_loadu_si256(from + 1);
    const __m256i words = _mm256_permute4x64_epi64(
        chain == 0 ? _mm256_unpacklo_epi64(a, b) : _mm256_unpackhi_epi64(a, b), 0xd8);
    low = FromHalves(HalvesOfFp8(_mm256_slli_epi16(words, 8)));
    high = FromHalves(HalvesOfFp8(words));
  }
  static void SplitInt8(const uint8_t* group, int chain, Lanes& low, Lanes& high) {
    const __m256i first = Words(group, chain);
    const __m256i last = Words(group + 32, chain);
    low = {FromInt8(first), FromInt8(last)};
    high = {FromInt8(_mm256_srli_epi32(first, 8)), FromInt8(_mm256_srli_epi32(last, 8))};
  }
  static void SplitInt4(const uint8_t* bytes, Lanes& low, Lanes& high) {
    const __m256i first = Bytes(bytes);
    const __m256i last = Bytes(bytes + 8);
    low = {FromInt4(first), FromInt4(last)};
    high = {FromInt4(_mm256_srli_epi32(first, 4)), FromInt4(_mm256_srli_epi32(last, 4))};
  }

  // sums[p] += the block of 32 inputs at x, of panels of fp8 codes: what the two chains of AddSumBlocks
  // do, at two thirds of the price. A register has both chains of four outputs, as the codes lie, so
  // nothing has to be sorted; and the inputs are scaled in place of the weights (FromHalves). False, and
  // nothing done, where an input is too large for that.
  template <int kPanels>
  [[gnu::always_inline]] static bool AddFp8Block(const float* x,
                                                 const uint8_t* const (&groups)[kPanels],
                                                 Lanes (&sums)[kPanels]) {
    constexpr int kInputs = 32;
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 largest = _mm256_setzero_ps();
    for (int i = 0; i < kInputs; i += 8) {
      // In this order a NaN is passed over.
      largest = _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(x + i), magnitude), largest);
    }
    const __m256 limit = _mm256_set1_ps(0x1p127f / kScaleOfHalves);
    if (_mm256_movemask_ps(_mm256_cmp_ps(largest, limit, _CMP_GE_OQ)) != 0) return false;

    const __m256i first_pair = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m256i last_pair = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);
    const __m256 scale = _mm256_set1_ps(kScaleOfHalves);
    __m256 quads[kPanels][4];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
      for (__m256& quad : quads[p]) quad = _mm256_setzero_ps();
    }
    for (int i = 0; i < kInputs; i += 4) {
      const __m256 inputs =
          _mm256_mul_ps(_mm256_broadcast_ps(reinterpret_cast<const __m128*>(x + i)), scale);
      const __m256 first = _mm256_permutevar_ps(inputs, first_pair);
      const __m256 last = _mm256_permutevar_ps(inputs, last_pair);
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const __m256i words =
              _mm256_loadu_si256(reinterpret_cast<const __m256i*>(groups[p] + i * 16) + half);
          AddHalves(HalvesOfFp8(words), first, quads[p] + 2 * half);
          AddHalves(HalvesOfFp8(_mm256_slli_epi16(words, 8)), last, quads[p] + 2 * half);
        }
      }
    }
    for (int p = 0; p < kPanels; ++p) {
      sums[p] =
          sums[p] + Lanes{AddChains(quads[p][0], quads[p][1]), AddChains(quads[p][2], quads[p][3])};
    }
    return true;
  }

  friend Lanes operator+(Lanes a, Lanes b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  friend Lanes operator-(Lanes a, Lanes b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  friend Lanes operator*(Lanes a, Lanes b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  friend Lanes operator/(Lanes a, Lanes b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  static Lanes Fma(Lanes a, Lanes b, Lanes c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static Lanes Max(Lanes a, Lanes b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
  }
  static Lanes SelectLess(Lanes a, Lanes b, Lanes x, Lanes y) {
    return {_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
            _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
  }
  static Lanes TwoTo(Lanes n) {
    const Lanes shifted = n + Set(0x1.8p23f + 127.0f);
    return {ShiftUp(shifted.low, 23), ShiftUp(shifted.high, 23)};
  }
  static Lanes RoundToBf16(Lanes a) { return {RoundHalf(a.low), RoundHalf(a.high)}; }

  // Four blocks of 8 by 8: each is transposed, and the two off the diagonal change places.
  static void Transpose(Lanes (&rows)[16]) {
    __m256 low[16];
    __m256 high[16];
    for (int i = 0; i < 16; ++i) {
      low[i] = rows[i].low;
      high[i] = rows[i].high;
    }
    TransposeEight(low);
    TransposeEight(low + 8);
    TransposeEight(high);
    TransposeEight(high + 8);
    for (int i = 0; i < 8; ++i) {
      rows[i] = {low[i], low[i + 8]};
      rows[i + 8] = {high[i], high[i + 8]};
    }
  }

 private:
  static void TransposeEight(__m256* rows) {
    __m256 quads[8];
    for (int i = 0; i < 8; i += 4) {
      const __m256 low01 = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
      const __m256 high01 = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
      const __m256 low23 = _mm256_unpacklo_ps(rows[i + 2], rows[i + 3]);
      const __m256 high23 = _mm256_unpackhi_ps(rows[i + 2], rows[i + 3]);
      quads[i] = _mm256_shuffle_ps(low01, low23, 0x44);
      quads[i + 1] = _mm256_shuffle_ps(low01, low23, 0xee);
      quads[i + 2] = _mm256_shuffle_ps(high01, high23, 0x44);
      quads[i + 3] = _mm256_shuffle_ps(high01, high23, 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      rows[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
      rows[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
    }
  }
  static __m256 ShiftUp(__m256 a, int num_bits) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), num_bits));
  }
  static __m256 HalfFromBf16(const uint16_t* from) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  // 8 words of one chain, from 32 bytes of both.
  static __m256i Words(const uint8_t* from, int chain) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 16));
    return _mm256_cvtepu16_epi32(chain == 0 ? _mm_unpacklo_epi64(a, b) : _mm_unpackhi_epi64(a, b));
  }
  // Of the codes (no NaN) in the upper bytes: as f16, 2^-8 of their values. An e4m3 lies in an f16 like
  // this, and its exponents are as much below; also where the exponent is zero.
  static __m256i HalvesOfFp8(__m256i words) {
    return _mm256_and_si256(_mm256_srai_epi16(words, 1),
                            _mm256_set1_epi16(static_cast<int16_t>(0xbf80)));
  }
  static constexpr float kScaleOfHalves = 0x1p8f;
  static Lanes FromHalves(__m256i halves) {
    const __m256 scale = _mm256_set1_ps(kScaleOfHalves);
    return {_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), scale),
            _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)), scale)};
  }
  static void AddHalves(__m256i halves, __m256 inputs, __m256* sums) {
    sums[0] = _mm256_fmadd_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), inputs, sums[0]);
    sums[1] =
        _mm256_fmadd_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)), inputs, sums[1]);
  }
  // Chain 0 is in the lower halves, chain 1 in the upper.
  static __m256 AddChains(__m256 first, __m256 last) {
    return _mm256_add_ps(_mm256_permute2f128_ps(first, last, 0x20),
                         _mm256_permute2f128_ps(first, last, 0x31));
  }
  static __m256i ToFp8(__m256 value) {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
    const __m256 shifted = _mm256_add_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(0x1p14f));
    const __m256i tiny = _mm256_and_si256(_mm256_castps_si256(shifted), _mm256_set1_epi32(0xf));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(magnitude, 20), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(magnitude, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ffff)));
    const __m256i normal =
        _mm256_sub_epi32(_mm256_srli_epi32(rounded, 20), _mm256_set1_epi32(120 << 3));
    const __m256i is_tiny =
        _mm256_cmpgt_epi32(_mm256_castps_si256(_mm256_set1_ps(0x1p-6f)), magnitude);
    const __m256i below_largest =
        _mm256_cmpgt_epi32(_mm256_castps_si256(_mm256_set1_ps(448.0f)), magnitude);
    const __m256i is_nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
    __m256i code = _mm256_blendv_epi8(normal, tiny, is_tiny);
    code = _mm256_blendv_epi8(_mm256_set1_epi32(0x7e), code, below_largest);
    const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
    return _mm256_blendv_epi8(_mm256_or_si256(code, sign), _mm256_set1_epi32(0x7f), is_nan);
  }
  // 8 bytes.
  static __m256i Bytes(const uint8_t* from) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
  // Of the lowest byte; of the lowest 4 bits.
  static __m256 FromInt8(__m256i codes) {
    const __m256i magnitude = _mm256_and_si256(codes, _mm256_set1_epi32(0x7f));
    const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(codes, _mm256_set1_epi32(0x80)), 24);
    return _mm256_or_ps(_mm256_cvtepi32_ps(magnitude), _mm256_castsi256_ps(sign));
  }
  static __m256 FromInt4(__m256i codes) {
    const __m256i code = _mm256_and_si256(codes, _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(code, _mm256_set1_epi32(8)));
  }
  static __m256 RoundHalf(__m256 a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    // A zero exponent: keep the sign only.
    const __m256i is_tiny =
        _mm256_cmpeq_epi32(_mm256_and_si256(bits, exponent), _mm256_setzero_si256());
    const __m256i sign = _mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0x80000000u)));
    rounded = _mm256_blendv_epi8(rounded, sign, is_tiny);
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    rounded = _mm256_blendv_epi8(rounded, quiet, is_nan);
    return _mm256_castsi256_ps(
        _mm256_and_si256(rounded, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
};

}  // namespace orrery::isa_avx2

#endif  // ORRERY_KERNELS_CPU_LANES_AVX2_H_
