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
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < kPanels; ++p) body(at[r][p], r, p);
    }
  }
};

// What is fetched into the cache meanwhile: of each stream, so many lines per block of inputs.
template <typename Lanes>
struct Prefetch {
  static constexpr int kLineBytes = 64;
  const uint8_t* streams[4] = {};
  int num_streams = 0;
  int lines_per_block = 0;
  int64_t fetched = 0;  // bytes of each stream
};

// sum += the blocks of the inputs [begin, end); begin is a multiple of 32, end one of 4.
template <typename Lanes, int kRows, int kPanels, typename Activations, typename Panels>
inline void AddSumBlocks(const Activations& x, const Panels& panels, int begin, int end,
                         Prefetch<Lanes>& prefetch, Tile<Lanes, kRows, kPanels>& sum) {
  using T = Tile<Lanes, kRows, kPanels>;
  decltype(x.data) rows[kRows];
  decltype(panels.data) columns[kPanels];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) rows[r] = x.data + r * x.row_stride;
#pragma GCC unroll 8
  for (int p = 0; p < kPanels; ++p) columns[p] = panels.data + p * panels.panel_stride;
  for (int64_t block = begin; block < end; block += kSumBlock) {
    for (int line = 0; line < prefetch.lines_per_block; ++line) {
      for (int s = 0; s < prefetch.num_streams; ++s) {
        __builtin_prefetch(prefetch.streams[s] + prefetch.fetched, /*rw=*/0, /*locality=*/2);
      }
      prefetch.fetched += Prefetch<Lanes>::kLineBytes;
    }
    const int64_t block_end = block + kSumBlock < end ? block + kSumBlock : end;
    T even = T::Zero();
    T odd = T::Zero();
    for (int64_t i = block; i < block_end; i += 4) {
#pragma GCC unroll 8
      for (int p = 0; p < kPanels; ++p) {
        const auto even_weights =
            Panels::LoadPair(columns[p] + i * kVectorLanes / Panels::kPerUnit, 0);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          even.at[r][p] = Activations::AddPair(rows[r] + i, 0, even_weights, even.at[r][p]);
        }
        const auto odd_weights =
            Panels::LoadPair(columns[p] + i * kVectorLanes / Panels::kPerUnit, 1);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          odd.at[r][p] = Activations::AddPair(rows[r] + i, 1, odd_weights, odd.at[r][p]);
        }
      }
    }
    sum.ForEach(
        [&](Lanes& lanes, int r, int p) { lanes = lanes + (even.at[r][p] + odd.at[r][p]); });
  }
}

// Calls body.operator()<kRows>(row) for tiles of at most kMaxRows rows.
template <int kMaxRows, typename Body>
inline void ForEachRowTile(int64_t num_rows, Body body) {
  int64_t row = 0;
  if constexpr (kMaxRows >= 8) {
    for (; row + 8 <= num_rows; row += 8) body.template operator()<8>(row);
  }
  if constexpr (kMaxRows >= 4) {
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
                const Panels& panels, Prefetch<Lanes> prefetch, int64_t row, int panel) {
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
    AddSumBlocks(x, panels, chunk.begin, chunk.end, prefetch, result);
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
      AddSumBlocks(x, panels, begin, begin + num, prefetch, sum);
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

// A tile at work fetches its part of the panels that come next, so that memory is read all the time,
// and not only by the first tile of rows that meets a panel. One tile of rows alone: of each next
// panel as much as it reads of the present one. Behind the last panel it fetches what nobody reads,
// which does no harm.
template <typename Lanes>
class PrefetchPlan {
 public:
  // `panels`: the next num_panels ones.
  template <typename Panels>
  static PrefetchPlan Make(const MatmulJob& job, const InputChunk& chunk, const Panels& panels,
                           int num_panels, int64_t num_tiles) {
    constexpr int kUnitBytes = sizeof(*panels.data);
    constexpr int kBlockBytes = kSumBlock * kVectorLanes * kUnitBytes / Panels::kPerUnit;
    PrefetchPlan plan;
    plan.panel_stride_ = panels.panel_stride * kUnitBytes;
    plan.from_ =
        reinterpret_cast<const uint8_t*>(panels.data) + chunk.begin / kSumBlock * kBlockBytes;
    plan.num_panels_ = num_panels;
    plan.is_one_tile_ = job.num_rows <= Lanes::kTileRows;
    const int num_blocks = (chunk.end - chunk.begin + kSumBlock - 1) / kSumBlock;
    if (!plan.is_one_tile_) {
      const int64_t parts = num_tiles / num_panels;
      plan.parts_per_panel_ = parts > 1 ? parts : 1;
    }
    const int64_t part_bytes = kBlockBytes / plan.parts_per_panel_;
    plan.lines_per_block_ = static_cast<int>((part_bytes + Prefetch<Lanes>::kLineBytes - 1) /
                                             Prefetch<Lanes>::kLineBytes);
    plan.part_bytes_ = int64_t{num_blocks} * plan.lines_per_block_ * Prefetch<Lanes>::kLineBytes;
    return plan;
  }

  // Of the tile with these panels (of the present ones), the so-manieth.
  template <int kPanels>
  Prefetch<Lanes> ForTile(int64_t tile, int panel) const {
    Prefetch<Lanes> prefetch;
    prefetch.lines_per_block = lines_per_block_;
    if (is_one_tile_) {
      prefetch.num_streams = kPanels;
      for (int p = 0; p < kPanels; ++p) {
        prefetch.streams[p] = from_ + (panel + p) * panel_stride_;
      }
    } else if (tile / parts_per_panel_ < num_panels_) {
      prefetch.num_streams = 1;
      prefetch.streams[0] =
          from_ + tile / parts_per_panel_ * panel_stride_ + tile % parts_per_panel_ * part_bytes_;
    }
    return prefetch;
  }

 private:
  const uint8_t* from_ = nullptr;
  int64_t panel_stride_ = 0;  // bytes
  int num_panels_ = 0;
  bool is_one_tile_ = false;
  int64_t parts_per_panel_ = 1;
  int64_t part_bytes_ = 0;
  int lines_per_block_ = 0;
};

template <typename Lanes>
int64_t NumTiles(int64_t num_rows, int num_panels) {
  constexpr int kPanels = Lanes::kTileSums / Lanes::kTileRows;
  return (num_rows + Lanes::kTileRows - 1) / Lanes::kTileRows *
         ((num_panels + kPanels - 1) / kPanels);
}

// All rows against the panels [begin, end).
template <typename Lanes, typename Activations, typename Panels>
void MatmulPanels(const MatmulJob& job, const InputChunk& chunk, const Activations& x,
                  const Panels& panels, const PrefetchPlan<Lanes>& plan, int begin, int end) {
  int64_t tile = 0;
  ForEachRowTile<Lanes::kTileRows>(job.num_rows, [&]<int kRows>(int64_t row) {
    const Activations rows = {x.data + row * x.row_stride, x.row_stride};
    ForEachPanelTile<Lanes, kRows>(begin, end, [&]<int kPanels>(int panel) {
      const Panels some = {panels.data + (panel - begin) * panels.panel_stride,
                           panels.panel_stride};
      const Prefetch<Lanes> prefetch = plan.template ForTile<kPanels>(tile++, panel - begin);
      MatmulTile<Lanes, kRows, kPanels>(job, chunk, rows, some, prefetch, row, panel);
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

// A chunk of as many whole blocks as kInputs holds.
template <typename Lanes>
int InputsPerChunk(const MatmulJob& job) {
  constexpr int kInputs = 1024;
  const int unit = job.scales_per_row == 1 ? kSumBlock : job.scale_block_inputs;
  return unit >= kInputs ? unit : kInputs / unit * unit;
}

// All rows against a few panels, which stay in the cache meanwhile; then against the next.
template <typename Lanes, typename Form, typename Panels>
void MatmulOf(const MatmulJob& job, const Panels& panels) {
  constexpr bool kIsCoded = sizeof(*panels.data) == 1;
  // Codes are decoded as they are loaded, unless they would be for one tile of rows after the other.
  const bool is_one_tile = job.num_rows <= Lanes::kTileRows;
  const int panels_at_once = kIsCoded && !is_one_tile ? kMaxDecodedPanels : 4;
  const auto x = Form::RowsAt(job.x, job.num_inputs);
  const int num_panels = (job.num_outputs + kVectorLanes - 1) / kVectorLanes;
  const int panel_end = job.panel_end < num_panels ? job.panel_end : num_panels;
  const int inputs_per_chunk = InputsPerChunk<Lanes>(job);
  for (InputChunk chunk = {0, 0}; chunk.begin < job.num_inputs; chunk.begin = chunk.end) {
    const int left = job.num_inputs - chunk.begin;
    chunk.end = chunk.begin + (left < inputs_per_chunk ? left : inputs_per_chunk);
    for (int begin = job.panel_begin; begin < panel_end; begin += panels_at_once) {
      const int end = begin + panels_at_once < panel_end ? begin + panels_at_once : panel_end;
      const int num_panels_now = end - begin;
      const Panels some = {panels.data + begin * panels.panel_stride, panels.panel_stride};
      const Panels next = {some.data + num_panels_now * some.panel_stride, some.panel_stride};
      const auto plan = PrefetchPlan<Lanes>::Make(job, chunk, next, num_panels_now,
                                                  NumTiles<Lanes>(job.num_rows, num_panels_now));
      if constexpr (kIsCoded) {
        if (!is_one_tile) {
          MatmulPanels<Lanes>(job, chunk, x, Decode<Lanes, Form>(job, chunk, some, num_panels_now),
                              plan, begin, end);
          continue;
        }
      }
      MatmulPanels<Lanes>(job, chunk, x, some, plan, begin, end);
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
