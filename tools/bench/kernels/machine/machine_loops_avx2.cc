#include <immintrin.h>

#include "tools/bench/kernels/machine/machine_loops-inl.h"

namespace orrery {
namespace {

struct Unit {
  static constexpr int kNumChains = 12;  // of 16 registers
  static constexpr int kFlopsPerStep = 2 * 8;
  using Sum = __m256;
  using Factor = __m256;
  static Sum Zero() { return _mm256_setzero_ps(); }
  static Factor Small() { return _mm256_set1_ps(0x1p-10f); }
  static Sum MultiplyAdd(Sum sum, Factor a, Factor b) { return _mm256_fmadd_ps(a, b, sum); }
  static float Total(Sum sum) {
    float lanes[8];
    _mm256_storeu_ps(lanes, sum);
    float total = 0.0f;
    for (float lane : lanes) total += lane;
    return total;
  }

  static constexpr int kBitsBytes = 32;
  using Bits = __m256i;
  static Bits Load(const char* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static Bits Join(Bits a, Bits b) { return _mm256_xor_si256(a, b); }
  static uint32_t Fold(Bits bits) {
    uint32_t words[8];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), bits);
    uint32_t folded = 0;
    for (uint32_t word : words) folded ^= word;
    return folded;
  }
};

}  // namespace

const MachineLoops& Avx2MachineLoops() {
  static constexpr MachineLoops kLoops = MakeMachineLoops<Unit>("VFMADD, 256 bits");
  return kLoops;
}

}  // namespace orrery
