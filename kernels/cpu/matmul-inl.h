// The canonical sum, and Matmul on top of it.
//
// A result is summed like the instruction TDPBF16PS does it. For every 32 inputs:
//
//   even = fma chain over inputs 0, 2, 4 .. 30 from zero      odd = the same over 1, 3, 5 .. 31
//   sum  = sum + (even + odd)
//
// Lanes are outputs, so each lane runs its own chain and the number of lanes, rows and panels at a
// time changes nothing.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_MATMUL_INL_H_
#define ORRERY_KERNELS_CPU_MATMUL_INL_H_

#include <stdint.h>

#include "kernels/cpu/operands-inl.h"

namespace orrery {

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

// sum += the blocks of the inputs [begin, end); begin is a multiple of 32, end one of 4.
template <typename Lanes, int kRows, int kPanels, typename Activations, typename Panels>
inline void AddSumBlocks(const Activations& x, const Panels& panels, int begin, int end,
                         Tile<Lanes, kRows, kPanels>& sum) {
  using T = Tile<Lanes, kRows, kPanels>;
  decltype(x.data) rows[kRows];
  decltype(panels.data) columns[kPanels];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) rows[r] = x.data + r * x.row_stride;
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) columns[p] = panels.data + p * panels.panel_stride;
  for (int64_t block = begin; block < end; block += kSumBlock) {
    const int64_t block_end = block + kSumBlock < end ? block + kSumBlock : end;
    T even = T::Zero();
    T odd = T::Zero();
    for (int64_t i = block; i < block_end; i += 4) {
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        const auto even_weights =
            Panels::LoadPair(columns[p] + i * kVectorLanes / Panels::kPerUnit, 0);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          even.at[r][p] = Activations::AddPair(rows[r] + i, 0, even_weights, even.at[r][p]);
        }
        const auto odd_weights =
            Panels::LoadPair(columns[p] + i * kVectorLanes / Panels::kPerUnit, 1);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          odd.at[r][p] = Activations::AddPair(rows[r] + i, 1, odd_weights, odd.at[r][p]);
        }
      }
    }
    sum.ForEach(
        [&](Lanes& lanes, int r, int p) { lanes = lanes + (even.at[r][p] + odd.at[r][p]); });
  }
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

// Calls body.operator()<kPanels>(panel) for tiles of panels in [begin, end): four at most, and as
// many as kRows rows leave room for.
template <typename Lanes, int kRows, typename Body>
inline void ForEachPanelTile(int begin, int end, Body body) {
  constexpr int kRoom = Lanes::kTileSums / kRows;
  int panel = begin;
  if constexpr (kRoom >= 4) {
    for (; panel + 4 <= end; panel += 4) body.template operator()<4>(panel);
  }
  if constexpr (kRoom >= 2) {
    for (; panel + 2 <= end; panel += 2) body.template operator()<2>(panel);
  }
  for (; panel < end; ++panel) body.template operator()<1>(panel);
}

// Inputs that are summed before the next ones are read: those of all rows then stay in the cache. A
// sum waits in `out` meanwhile.
struct InputChunk {
  int begin;
  int end;
};

template <typename Lanes, int kRows, int kPanels, typename Activations, typename Panels>
void MatmulTile(const MatmulJob& job, const InputChunk& chunk, const Activations& x,
                const Panels& panels, int64_t row, int panel) {
  using T = Tile<Lanes, kRows, kPanels>;
  const bool is_last = chunk.end == job.num_inputs;
  auto out_at = [&](int r, int p) {
    return job.out + (row + r) * job.out_stride + (panel + p) * kVectorLanes;
  };
  auto num_at = [&](int p) {
    const int left = job.num_outputs - (panel + p) * kVectorLanes;
    return left < kVectorLanes ? left : kVectorLanes;
  };
  auto scale_at = [&](int p, int block) {
    if (job.scales == nullptr) {
      const int64_t scale = static_cast<int64_t>(panel + p) * job.scales_per_row + block;
      return Lanes::LoadBf16(job.output_scales + scale * kVectorLanes);
    }
    const int scale_row = (panel + p) * kVectorLanes / job.scale_block_outputs;
    return Lanes::Set(job.scales[static_cast<int64_t>(scale_row) * job.scales_per_row + block]);
  };
  T result = T::Zero();
  if (chunk.begin > 0) {
    result.ForEach(
        [&](Lanes& lanes, int r, int p) { lanes = LoadStep<Lanes>(out_at(r, p), num_at(p)); });
  }
  if (job.scales_per_row == 1) {
    AddSumBlocks(x, panels, chunk.begin, chunk.end, result);
    if (is_last) {
      result.ForEach([&](Lanes& lanes, int, int p) {
        lanes = Lanes::Fma(lanes, scale_at(p, 0), Lanes::Set(0.0f));
      });
    }
  } else {
    int block = chunk.begin / job.scale_block_inputs;
    for (int begin = chunk.begin; begin < chunk.end; begin += job.scale_block_inputs, ++block) {
      const int left = chunk.end - begin;
      const int num = left < job.scale_block_inputs ? left : job.scale_block_inputs;
      T sum = T::Zero();
      AddSumBlocks(x, panels, begin, begin + num, sum);
      result.ForEach([&](Lanes& lanes, int r, int p) {
        lanes = Lanes::Fma(sum.at[r][p], scale_at(p, block), lanes);
      });
    }
  }
  result.ForEach([&](Lanes& lanes, int r, int p) {
    if (is_last && job.bias != nullptr) {
      lanes = lanes + LoadStep<Lanes>(job.bias + (panel + p) * kVectorLanes, num_at(p));
    }
    StoreStep(lanes, num_at(p), out_at(r, p));
  });
}

// All rows against the panels [begin, end).
template <typename Lanes, typename Activations, typename Panels>
void MatmulPanels(const MatmulJob& job, const InputChunk& chunk, const Activations& x,
                  const Panels& panels, int begin, int end) {
  ForEachRowTile<Lanes>(job.num_rows, [&]<int kRows>(int64_t row) {
    const Activations rows = {x.data + row * x.row_stride, x.row_stride};
    ForEachPanelTile<Lanes, kRows>(begin, end, [&]<int kPanels>(int panel) {
      const Panels tile = {panels.data + (panel - begin) * panels.panel_stride,
                           panels.panel_stride};
      MatmulTile<Lanes, kRows, kPanels>(job, chunk, rows, tile, row, panel);
    });
  });
}

// The inputs of the chunk, of panels of codes, as panels of the form; they lie where they would in
// whole panels.
template <typename Lanes, typename Form, typename Panels>
typename Form::Panels Decode(const MatmulJob& job, const InputChunk& chunk, const Panels& panels,
                             int num_panels) {
  auto* const to = reinterpret_cast<typename Form::Value*>(job.decoded);
  const int64_t decoded_stride = static_cast<int64_t>(job.num_inputs) * kVectorLanes;
  for (int p = 0; p < num_panels; ++p) {
    for (int64_t i = chunk.begin; i < chunk.end; i += 4) {
      const uint8_t* const group =
          panels.data + p * panels.panel_stride + i * kVectorLanes / Panels::kPerUnit;
      for (int chain = 0; chain < 2; ++chain) {
        Form::StorePair(Panels::LoadPair(group, chain), chain,
                        to + p * decoded_stride + i * kVectorLanes);
      }
    }
  }
  return {to, decoded_stride};
}

// A chunk of as many whole blocks as kInputs holds; all inputs if one tile takes all rows.
template <typename Lanes>
int InputsPerChunk(const MatmulJob& job) {
  constexpr int kInputs = 1024;
  if (job.num_rows <= Lanes::kTileRows) return job.num_inputs;
  const int unit = job.scales_per_row == 1 ? kSumBlock : job.scale_block_inputs;
  return unit >= kInputs ? unit : kInputs / unit * unit;
}

// All rows against a few panels, which stay in the cache meanwhile; then against the next.
template <typename Lanes, typename Form, typename Panels>
void MatmulOf(const MatmulJob& job, const Panels& panels) {
  constexpr bool kIsCoded = sizeof(*panels.data) == 1;
  constexpr int kPanelsAtOnce = kIsCoded ? kMaxDecodedPanels : 4;
  const auto x = Form::RowsAt(job.x, job.num_inputs);
  const int num_panels = (job.num_outputs + kVectorLanes - 1) / kVectorLanes;
  const int panel_end = job.panel_end < num_panels ? job.panel_end : num_panels;
  const int inputs_per_chunk = InputsPerChunk<Lanes>(job);
  for (InputChunk chunk = {0, 0}; chunk.begin < job.num_inputs; chunk.begin = chunk.end) {
    const int left = job.num_inputs - chunk.begin;
    chunk.end = chunk.begin + (left < inputs_per_chunk ? left : inputs_per_chunk);
    for (int begin = job.panel_begin; begin < panel_end; begin += kPanelsAtOnce) {
      const int end = begin + kPanelsAtOnce < panel_end ? begin + kPanelsAtOnce : panel_end;
      const Panels some = {panels.data + begin * panels.panel_stride, panels.panel_stride};
      if constexpr (kIsCoded) {
        // Decoded as they are loaded, unless they would be for one tile of rows after the other.
        if (job.num_rows > Lanes::kTileRows) {
          MatmulPanels<Lanes>(job, chunk, x, Decode<Lanes, Form>(job, chunk, some, end - begin),
                              begin, end);
          continue;
        }
      }
      MatmulPanels<Lanes>(job, chunk, x, some, begin, end);
    }
  }
}

template <typename Lanes, typename Form, typename Panels, typename Value>
void MatmulOfType(const MatmulJob& job) {
  const int64_t panel_size = static_cast<int64_t>(job.num_inputs) * kVectorLanes;
  const Panels panels = {static_cast<const Value*>(job.panels), panel_size / Panels::kPerUnit};
  MatmulOf<Lanes, Form>(job, panels);
}

template <typename Lanes, typename Form>
void MatmulOfForm(const MatmulJob& job) {
  switch (job.format) {
    case PanelFormat::kF32:
      return MatmulOfType<Lanes, F32Form<Lanes>, F32Panels<Lanes>, float>(job);
    case PanelFormat::kBf16:
      return MatmulOfType<Lanes, Form, typename Form::Bf16Weights, uint16_t>(job);
    case PanelFormat::kFp8:
      return MatmulOfType<Lanes, Form, typename Form::template CodedWeights<Fp8Code>, uint8_t>(job);
    case PanelFormat::kInt8:
      return MatmulOfType<Lanes, Form, typename Form::template CodedWeights<Int8Code>, uint8_t>(
          job);
    case PanelFormat::kInt4:
      return MatmulOfType<Lanes, Form, typename Form::template CodedWeights<Int4Code>, uint8_t>(
          job);
  }
}

template <typename Lanes>
void Matmul(const MatmulJob& job) {
  if (job.is_rounded) {
    MatmulOfForm<Lanes, RoundedForm<Lanes>>(job);
  } else {
    MatmulOfForm<Lanes, F32Form<Lanes>>(job);
  }
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_MATMUL_INL_H_
