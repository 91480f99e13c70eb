#include "tools/bench/kernels/machine/avx512_unit.h"
#include "tools/bench/kernels/machine/machine_loops-inl.h"

namespace orrery {
namespace {

struct Unit : Avx512Unit {
  static constexpr int kFlopsPerStep = 2 * 16;
  using Factor = __m512;
  static Factor Small() { return _mm512_set1_ps(0x1p-10f); }
  static Sum MultiplyAdd(Sum sum, Factor a, Factor b) { return _mm512_fmadd_ps(a, b, sum); }
};

}  // namespace

const MachineLoops& Avx512MachineLoops() {
  static constexpr MachineLoops kLoops = MakeMachineLoops<Unit>("VFMADD, 512 bits");
  return kLoops;
}

}  // namespace orrery
