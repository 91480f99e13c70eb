#include <string.h>

#include "tools/bench/kernels/machine/machine_loops-inl.h"

namespace orrery {
namespace {

struct Unit {
  static constexpr int kNumChains = 8;
  static constexpr int kFlopsPerStep = 2;
  using Sum = float;
  using Factor = float;
  static Sum Zero() { return 0.0f; }
  static Factor Small() {
    volatile float small = 0x1p-10f;
    return small;
  }
  static Sum MultiplyAdd(Sum sum, Factor a, Factor b) {
    // Without this the compiler would see that a * b is the same in every round.
    asm volatile("" : "+x"(a));
    return sum + a * b;
  }
  static float Total(Sum sum) { return sum; }

  static constexpr int kBitsBytes = 8;
  using Bits = uint64_t;
  static Bits Load(const char* from) {
    Bits bits;
    memcpy(&bits, from, sizeof(bits));
    return bits;
  }
  static Bits Join(Bits a, Bits b) { return a ^ b; }
  static uint32_t Fold(Bits bits) { return static_cast<uint32_t>(bits ^ (bits >> 32)); }
};

}  // namespace

const MachineLoops& ScalarMachineLoops() {
  static constexpr MachineLoops kLoops = MakeMachineLoops<Unit>("MULSS and ADDSS");
  return kLoops;
}

}  // namespace orrery
