// Sums on their way from tile registers to the results.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_TILE_LEAVER_INL_H_
#define ORRERY_KERNELS_CPU_TILE_LEAVER_INL_H_

#include <stdint.h>

#include "kernels/cpu/matmul-inl.h"

namespace orrery {

// Takes whole sums to `out`, some rows at a time while the next ones are multiplied.
template <typename Lanes>
class Leaver {
 public:
  struct Sums {
    const float* at;  // TileMemory::leaving
    int64_t row;      // the first
    int num_rows;
    int panel;
    int num_panels;
    InputChunk inputs;  // with which they are whole
  };

  // To be finished within so many steps.
  void Start(const MatmulJob& job, const Sums& sums, int num_steps) {
    sums_ = sums;
    row_ = 0;
    rows_per_step_ = (sums.num_rows + num_steps - 1) / num_steps;
    adds_ = job.scales_per_row != 1 && sums.inputs.begin > 0;
    bias_ = sums.inputs.end == job.num_inputs ? job.bias : nullptr;
    out_ = job.out + sums.row * job.out_stride + sums.panel * kVectorLanes;
    out_stride_ = job.out_stride;
    num_last_ = job.num_outputs - (sums.panel + sums.num_panels - 1) * kVectorLanes;
    for (int p = 0; p < sums.num_panels; ++p) {
      const int block = job.scales_per_row == 1 ? 0 : sums.inputs.begin / job.scale_block_inputs;
      scale_[p] = ScaleAt<Lanes>(job, sums.panel + p, block);
    }
  }
  void Step() { Leave(rows_per_step_); }
  void Finish() { Leave(sums_.num_rows); }

 private:
  void Leave(int num_rows) {
    const int end = row_ + num_rows < sums_.num_rows ? row_ + num_rows : sums_.num_rows;
    if (row_ == end) return;
    const bool are_whole = num_last_ >= kVectorLanes && bias_ == nullptr;
    if (are_whole && sums_.num_panels == 2) {
      LeaveWholePanels(end);
    } else {
      LeaveSome(end);
    }
    row_ = end;
  }
  const float* SumsOf(int row) const { return sums_.at + row * kVectorLanes; }

  // What is most frequent: two. No member is read meanwhile: for all the compiler knows, stores go there.
  void LeaveWholePanels(int end) {
    const Lanes scales[] = {scale_[0], scale_[1]};
    const bool adds = adds_;
    const int64_t out_stride = out_stride_;
    float* out = out_ + row_ * out_stride;
    const float* sum = SumsOf(row_);
    for (int row = row_; row < end; ++row, sum += kVectorLanes, out += out_stride) {
#pragma GCC unroll 2
      for (int p = 0; p < 2; ++p) {
        float* const to = out + p * kVectorLanes;
        const Lanes before = adds ? Lanes::Load(to) : Lanes::Set(0.0f);
        Lanes::Fma(Lanes::Load(sum + p * TileMemory::kTileValues), scales[p], before).Store(to);
      }
    }
  }
  void LeaveSome(int end) {
    for (int row = row_; row < end; ++row) {
      for (int p = 0; p < sums_.num_panels; ++p) {
        const bool is_whole = p + 1 < sums_.num_panels || num_last_ > kVectorLanes;
        const int num = is_whole ? kVectorLanes : num_last_;
        float* const out = out_ + row * out_stride_ + p * kVectorLanes;
        const Lanes before = adds_ ? LoadStep<Lanes>(out, num) : Lanes::Set(0.0f);
        Lanes result =
            Lanes::Fma(Lanes::Load(SumsOf(row) + p * TileMemory::kTileValues), scale_[p], before);
        if (bias_ != nullptr) {
          result = result + LoadStep<Lanes>(bias_ + (sums_.panel + p) * kVectorLanes, num);
        }
        StoreStep(result, num, out);
      }
    }
  }

  Sums sums_ = {};
  int row_ = 0;
  int rows_per_step_ = 0;
  bool adds_ = false;
  const float* bias_ = nullptr;
  float* out_ = nullptr;
  int64_t out_stride_ = 0;
  int num_last_ = 0;  // outputs of the last panel, if not more
  Lanes scale_[2];
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_TILE_LEAVER_INL_H_
