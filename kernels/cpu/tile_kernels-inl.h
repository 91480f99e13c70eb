// The table of one lane type with tile registers, for lane_kernels_amx*.cc.
#ifndef ORRERY_KERNELS_CPU_TILE_KERNELS_INL_H_
#define ORRERY_KERNELS_CPU_TILE_KERNELS_INL_H_

#include "kernels/cpu/lane_kernels-inl.h"
#include "kernels/cpu/tile_attention-inl.h"
#include "kernels/cpu/tile_matmul-inl.h"

namespace orrery {

template <typename Lanes, typename Tiles>
constexpr LaneKernels MakeTileKernels() {
  LaneKernels kernels = MakeLaneKernels<Lanes>();
  kernels.name = Tiles::kName;
  kernels.prepare_rows = PrepareTileRows<Lanes>;
  kernels.matmul = MatmulWithTiles<Lanes, Tiles>;
  kernels.pack_queries = PackTileQueries<Lanes>;
  kernels.attend_block = AttendTileBlock<Lanes, Tiles>;
  return kernels;
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_TILE_KERNELS_INL_H_
