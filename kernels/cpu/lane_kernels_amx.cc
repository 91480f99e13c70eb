#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/tile_kernels-inl.h"
#include "kernels/cpu/tiles_amx.h"

namespace orrery {

const LaneKernels& AmxLaneKernels() {
  static constexpr LaneKernels kTable =
      MakeTileKernels<isa_avx512::LanesOf<true>, isa_amx::Tiles>();
  return kTable;
}

}  // namespace orrery
