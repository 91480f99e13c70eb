// The table of one lane type, for lane_kernels_*.cc.
#ifndef ORRERY_KERNELS_CPU_LANE_KERNELS_INL_H_
#define ORRERY_KERNELS_CPU_LANE_KERNELS_INL_H_

#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/lane_kernels.h"
#include "kernels/cpu/matmul-inl.h"
#include "kernels/cpu/row_kernels-inl.h"

namespace orrery {

template <typename Lanes>
constexpr LaneKernels MakeLaneKernels() {
  return {
      .name = Lanes::kName,
      .prepare_rows = PrepareRows<Lanes>,
      .widen_row = WidenRow<Lanes>,
      .round_row = RoundRow<Lanes>,
      .largest_magnitude = LargestMagnitude<Lanes>,
      .encode_fp8 = EncodeFp8<Lanes>,
      .decode_fp8 = DecodeFp8<Lanes>,
      .matmul = Matmul<Lanes>,
      .silu_times = SiluTimes<Lanes>,
      .rms_norm = RmsNorm<Lanes>,
      .pack_queries = PackQueries<Lanes>,
      .attend_block = AttendBlock<Lanes>,
      .divide = Divide<Lanes>,
      .add = Add<Lanes>,
      .add_times = AddTimes<Lanes>,
      .sigmoid = SigmoidRow<Lanes>,
      .max_value = MaxValue<Lanes>,
      .sum_exp = SumExp<Lanes>,
      .subtract = Subtract<Lanes>,
  };
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_LANE_KERNELS_INL_H_
