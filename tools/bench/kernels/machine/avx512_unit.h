// What the two AVX-512 tables share: loads, and the sums of a register.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_MACHINE_AVX512_UNIT_H_
#define ORRERY_TOOLS_BENCH_KERNELS_MACHINE_AVX512_UNIT_H_

#include <immintrin.h>
#include <stdint.h>

namespace orrery {
namespace {  // each file its own, see machine_loops-inl.h

struct Avx512Unit {
  static constexpr int kNumChains = 24;  // of 32 registers
  using Sum = __m512;
  static Sum Zero() { return _mm512_setzero_ps(); }
  static float Total(Sum sum) { return _mm512_reduce_add_ps(sum); }

  static constexpr int kBitsBytes = 64;
  using Bits = __m512i;
  static Bits Load(const char* from) { return _mm512_loadu_si512(from); }
  static Bits Join(Bits a, Bits b) { return _mm512_xor_si512(a, b); }
  static uint32_t Fold(Bits bits) { return _mm512_reduce_add_epi32(bits); }
};

}  // namespace
}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_MACHINE_AVX512_UNIT_H_
