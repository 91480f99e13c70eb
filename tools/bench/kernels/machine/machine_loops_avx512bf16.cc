#include "tools/bench/kernels/machine/avx512_unit.h"
#include "tools/bench/kernels/machine/machine_loops-inl.h"

namespace orrery {
namespace {

struct Unit : Avx512Unit {
  static constexpr int kFlopsPerStep = 2 * 32;  // two products in each lane
  using Factor = __m512bh;
  static Factor Small() {
    return _mm512_cvtne2ps_pbh(_mm512_set1_ps(0x1p-10f), _mm512_set1_ps(0x1p-10f));
  }
  static Sum MultiplyAdd(Sum sum, Factor a, Factor b) { return _mm512_dpbf16_ps(sum, a, b); }
};

}  // namespace

const MachineLoops& Avx512Bf16MachineLoops() {
  static constexpr MachineLoops kLoops = MakeMachineLoops<Unit>("VDPBF16PS, 512 bits");
  return kLoops;
}

}  // namespace orrery
