// Sixteen f32 lanes in two AVX2 registers (with FMA). lanes_scalar.h says what each operation
// means, and which rule this header follows.
#ifndef ORRERY_KERNELS_CPU_LANES_AVX2_H_
#define ORRERY_KERNELS_CPU_LANES_AVX2_H_

#include <immintrin.h>
#include <stdint.h>

namespace orrery::isa_avx2 {

struct Lanes {
  // 2 rows * 1 panel * (even, odd) * 2 registers = 8 of 16 for the chains; a pair of weights
  // takes 4.
  static constexpr int kTileRows = 2;
  static constexpr int kTileSums = 2;
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
  static Lanes LoadFp8(const uint8_t* from) { return {HalfFromFp8(from), HalfFromFp8(from + 8)}; }
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
    const __m256i first = Words(group, chain);
    const __m256i last = Words(group + 32, chain);
    low = {FromFp8(first), FromFp8(last)};
    high = {FromFp8(_mm256_srli_epi32(first, 8)), FromFp8(_mm256_srli_epi32(last, 8))};
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
  static __m256 HalfFromFp8(const uint8_t* from) {
    const __m256i codes = Bytes(from);
    const __m256i seven_bits = _mm256_set1_epi32(0x7f);
    const __m256i is_nan = _mm256_cmpeq_epi32(_mm256_and_si256(codes, seven_bits), seven_bits);
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
    return _mm256_blendv_ps(FromFp8(codes), nan, _mm256_castsi256_ps(is_nan));
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
  // Of the lowest byte. A zero exponent: as if it were 1, less the leading 1 that is not there.
  static __m256 FromFp8(__m256i codes) {
    const __m256i magnitude =
        _mm256_slli_epi32(_mm256_and_si256(codes, _mm256_set1_epi32(0x7f)), 20);
    const __m256i normal = _mm256_add_epi32(magnitude, _mm256_set1_epi32(120 << 23));
    const __m256 next =
        _mm256_castsi256_ps(_mm256_add_epi32(magnitude, _mm256_set1_epi32(121 << 23)));
    const __m256 tiny = _mm256_sub_ps(next, _mm256_set1_ps(0x1p-6f));
    const __m256i exponent = _mm256_and_si256(codes, _mm256_set1_epi32(0x78));
    const __m256i is_tiny = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
    const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(codes, _mm256_set1_epi32(0x80)), 24);
    const __m256 value =
        _mm256_blendv_ps(_mm256_castsi256_ps(normal), tiny, _mm256_castsi256_ps(is_tiny));
    return _mm256_or_ps(value, _mm256_castsi256_ps(sign));
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
