// The canonical sum, and Matmul on top of it.
//
// A result is summed like the instruction TDPBF16PS does it. For every 32 inputs:
//
//   even = fma chain over inputs 0, 2, 4 .. 30 from zero      odd = the same over 1, 3, 5 .. 31
//   sum  = sum + (even + odd)
//
// Lanes are outputs, so each lane runs its own chain and the number of lanes, rows and panels at a
// time changes nothing. A short last block has shorter chains; zeros appended to it would not
// change a bit.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_MATMUL_INL_H_
#define ORRERY_KERNELS_CPU_MATMUL_INL_H_

#include <stdint.h>

#include "kernels/cpu/math-inl.h"

namespace orrery {

// Weights as bf16 in panels of [num_inputs / 2][16 outputs][2]. num_inputs is even.
template <typename Lanes>
struct Bf16Panels {
  static constexpr bool kMayEndOdd = false;
  const uint16_t* data;
  int64_t panel_stride;
  void LoadPair(int panel, int input, Lanes& even, Lanes& odd) const {
    Lanes::LoadBf16Pairs(data + panel * panel_stride + input * kVectorLanes, even, odd);
  }
};

// Weights as f32: 16 outputs of one input are neighbours.
template <typename Lanes>
struct F32Panels {
  static constexpr bool kMayEndOdd = true;
  const float* data;
  int64_t panel_stride;
  int64_t input_stride;
  Lanes LoadOne(int panel, int input) const {
    return Lanes::Load(data + panel * panel_stride + input * input_stride);
  }
  void LoadPair(int panel, int input, Lanes& even, Lanes& odd) const {
    even = LoadOne(panel, input);
    odd = LoadOne(panel, input + 1);
  }
};

// Activation of a row and an input: data[row * row_stride + input * kInputStride].
template <typename Lanes, int kInputStride>
struct Activations {
  const float* data;
  int64_t row_stride;
  Lanes Broadcast(int row, int input) const {
    return Lanes::Set(data[row * row_stride + static_cast<int64_t>(input) * kInputStride]);
  }
};

// Sums of kRows rows and kPanels panels. The loops over them must be unrolled, or the sums live in
// memory and not in registers; -O2 would not do it unasked.
template <typename Lanes, int kRows, int kPanels>
struct Tile {
  Lanes at[kRows][kPanels];

  static Tile Zero() {
    Tile tile;
    tile.ForEach([](Lanes& lanes, int, int) { lanes = Lanes::Set(0.0f); });
    return tile;
  }
  template <typename Body>
  void ForEach(Body body) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) body(at[r][p], r, p);
    }
  }
};

// sum += (even + odd) of the inputs [begin, begin + num), num <= 32.
template <typename Lanes, int kRows, int kPanels, typename Acts, typename Panels>
inline __attribute__((always_inline)) void AddSumBlock(const Acts& x, const Panels& panels,
                                                       int begin, int num,
                                                       Tile<Lanes, kRows, kPanels>& sum) {
  using T = Tile<Lanes, kRows, kPanels>;
  T even = T::Zero();
  T odd = T::Zero();
  for (int i = begin; i + 1 < begin + num; i += 2) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      Lanes weight_even;
      Lanes weight_odd;
      panels.LoadPair(p, i, weight_even, weight_odd);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        even.at[r][p] = Lanes::Fma(x.Broadcast(r, i), weight_even, even.at[r][p]);
        odd.at[r][p] = Lanes::Fma(x.Broadcast(r, i + 1), weight_odd, odd.at[r][p]);
      }
    }
  }
  if constexpr (Panels::kMayEndOdd) {
    const int last = begin + num - 1;
    if (num % 2 == 1) {
      even.ForEach([&](Lanes& lanes, int r, int p) {
        lanes = Lanes::Fma(x.Broadcast(r, last), panels.LoadOne(p, last), lanes);
      });
    }
  }
  sum.ForEach([&](Lanes& lanes, int r, int p) { lanes = lanes + (even.at[r][p] + odd.at[r][p]); });
}

// sum += the blocks of the inputs [begin, end); begin is a multiple of 32.
template <typename Lanes, int kRows, int kPanels, typename Acts, typename Panels>
inline void AddSumBlocks(const Acts& x, const Panels& panels, int begin, int end,
                         Tile<Lanes, kRows, kPanels>& sum) {
  int i = begin;
  for (; i + kSumBlock <= end; i += kSumBlock) AddSumBlock(x, panels, i, kSumBlock, sum);
  if (i < end) AddSumBlock(x, panels, i, end - i, sum);
}

// Calls body.operator()<kRows>(row) for tiles of at most Lanes::kTileRows rows.
template <typename Lanes, typename Body>
inline void ForEachRowTile(int64_t num_rows, Body body) {
  int64_t row = 0;
  if constexpr (Lanes::kTileRows >= 4) {
    for (; row + 4 <= num_rows; row += 4) body.template operator()<4>(row);
    if (row + 3 == num_rows) {
      body.template operator()<3>(row);
      return;
    }
  }
  for (; row + 2 <= num_rows; row += 2) body.template operator()<2>(row);
  if (row < num_rows) body.template operator()<1>(row);
}

template <typename Lanes, int kRows, int kPanels, typename Panels>
void MatmulTile(const MatmulJob& job, const Panels& panels, int64_t row, int panel) {
  using T = Tile<Lanes, kRows, kPanels>;
  const Activations<Lanes, 1> x = {job.x + row * job.x_stride, job.x_stride};
  T result = T::Zero();
  int block = 0;
  for (int begin = 0; begin < job.num_inputs; begin += job.scale_block_inputs, ++block) {
    const int left = job.num_inputs - begin;
    const int num = left < job.scale_block_inputs ? left : job.scale_block_inputs;
    T sum = T::Zero();
    AddSumBlocks(x, panels, begin, begin + num, sum);
    result.ForEach([&](Lanes& lanes, int r, int p) {
      const int scale_row = (panel + p) * kVectorLanes / job.scale_block_outputs;
      const float scale = job.scales[static_cast<int64_t>(scale_row) * job.scales_per_row + block];
      lanes = Lanes::Fma(sum.at[r][p], Lanes::Set(scale), lanes);
    });
  }
  result.ForEach([&](Lanes& lanes, int r, int p) {
    const int output = (panel + p) * kVectorLanes;
    const int left = job.num_outputs - output;
    const int num = left < kVectorLanes ? left : kVectorLanes;
    if (job.bias != nullptr) lanes = lanes + LoadStep<Lanes>(job.bias + output, num);
    StoreStep(lanes, num, job.out + (row + r) * job.out_stride + output);
  });
}

// All rows against panels [begin, end), which stay in the cache meanwhile.
template <typename Lanes, typename Panels>
void MatmulPanels(const MatmulJob& job, const Panels& panels, int begin, int end) {
  ForEachRowTile<Lanes>(job.num_rows, [&]<int kRows>(int64_t row) {
    constexpr int kPanels = kRows < Lanes::kTilePanels ? Lanes::kTilePanels / kRows : 1;
    auto from = [&](int panel) {
      Panels rest = panels;
      rest.data += panel * panels.panel_stride;
      return rest;
    };
    int panel = begin;
    for (; panel + kPanels <= end; panel += kPanels) {
      MatmulTile<Lanes, kRows, kPanels>(job, from(panel), row, panel);
    }
    for (; panel < end; ++panel) MatmulTile<Lanes, kRows, 1>(job, from(panel), row, panel);
  });
}

template <typename Lanes>
void Matmul(const MatmulJob& job) {
  const int64_t panel_stride = static_cast<int64_t>(job.num_inputs) * kVectorLanes;
  const int num_panels = (job.num_outputs + kVectorLanes - 1) / kVectorLanes;
  for (int begin = 0; begin < num_panels; begin += Lanes::kTilePanels) {
    const int end =
        begin + Lanes::kTilePanels < num_panels ? begin + Lanes::kTilePanels : num_panels;
    if (job.is_bf16) {
      const auto* data = static_cast<const uint16_t*>(job.panels);
      MatmulPanels<Lanes>(job, Bf16Panels<Lanes>{data, panel_stride}, begin, end);
    } else {
      const auto* data = static_cast<const float*>(job.panels);
      MatmulPanels<Lanes>(job, F32Panels<Lanes>{data, panel_stride, kVectorLanes}, begin, end);
    }
  }
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_MATMUL_INL_H_
