// Sixteen f32 lanes in one AVX-512 register (AVX512F is enough). lanes_scalar.h says what each
// operation means, and which rule this header follows.
#ifndef ORRERY_KERNELS_CPU_LANES_AVX512_H_
#define ORRERY_KERNELS_CPU_LANES_AVX512_H_

#include <immintrin.h>
#include <stdint.h>

namespace orrery::isa_avx512 {

struct Lanes {
  // 4 rows * 1 panel * (even, odd) = 8 chains: an FMA has a latency of 4 and two can start per
  // cycle. One row takes 4 panels at once for the same 8.
  static constexpr int kTileRows = 4;
  static constexpr int kTilePanels = 4;
  static constexpr const char* kName = "avx512";

  __m512 all;

  static Lanes Set(float value) { return {_mm512_set1_ps(value)}; }
  static Lanes Load(const float* from) { return {_mm512_loadu_ps(from)}; }
  void Store(float* to) const { _mm512_storeu_ps(to, all); }

  static Lanes LoadBf16(const uint16_t* from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return FromBits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static void LoadBf16Pairs(const uint16_t* from, Lanes& even, Lanes& odd) {
    const __m512i bits = _mm512_loadu_si512(from);
    even = FromBits(_mm512_slli_epi32(bits, 16));
    odd = FromBits(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  void StoreBf16(uint16_t* to) const {
    const __m512i upper = _mm512_srli_epi32(_mm512_castps_si512(all), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(upper));
  }

  friend Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.all, b.all)}; }
  friend Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.all, b.all)}; }
  friend Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.all, b.all)}; }
  friend Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.all, b.all)}; }
  static Lanes Fma(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.all, b.all, c.all)}; }
  static Lanes Max(Lanes a, Lanes b) { return {_mm512_max_ps(a.all, b.all)}; }
  static Lanes SelectLess(Lanes a, Lanes b, Lanes x, Lanes y) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.all, b.all, _CMP_LT_OQ), y.all, x.all)};
  }
  static Lanes TwoTo(Lanes n) {
    const Lanes shifted = n + Set(0x1.8p23f + 127.0f);
    return FromBits(_mm512_slli_epi32(_mm512_castps_si512(shifted.all), 23));
  }
  static Lanes RoundToBf16(Lanes a) {
    const __m512i bits = _mm512_castps_si512(a.all);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    // A zero exponent: keep the sign only.
    const __mmask16 is_tiny = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
    const __m512i sign = _mm512_set1_epi32(static_cast<int>(0x80000000u));
    rounded = _mm512_mask_and_epi32(rounded, is_tiny, bits, sign);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(a.all, a.all, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x400000));
    return FromBits(_mm512_and_si512(rounded, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }

 private:
  static Lanes FromBits(__m512i bits) { return {_mm512_castsi512_ps(bits)}; }
};

}  // namespace orrery::isa_avx512

#endif  // ORRERY_KERNELS_CPU_LANES_AVX512_H_
