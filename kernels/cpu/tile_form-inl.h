// The order in which tile registers (tiles_model.h) want what they multiply, which PairForm has not
// (operands-inl.h).
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_TILE_FORM_INL_H_
#define ORRERY_KERNELS_CPU_TILE_FORM_INL_H_

#include <stdint.h>

#include "kernels/cpu/operands-inl.h"

namespace orrery {

// bf16 in the order of the inputs: rows [input], panels [input / 2][16 outputs][2].
template <typename Lanes>
struct TileForm {
  using Value = uint16_t;
  static void StoreInputs(Lanes x, Value* to) { x.StoreBf16(to); }
  static void StoreRow(Lanes words, Value* to) { words.StoreBits(to); }
  static void StoreGroup(Lanes first_two, Lanes last_two, Value* group) {
    first_two.StoreBits(group);
    last_two.StoreBits(group + 2 * kVectorLanes);
  }
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_TILE_FORM_INL_H_
