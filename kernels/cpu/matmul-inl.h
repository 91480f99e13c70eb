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
#include "kernels/cpu/prefetch-inl.h"

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
  [[gnu::always_inline]] void ForEach(Body body) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < kPanels; ++p) body(at[r][p], r, p);
    }
  }
};

// The pairs of one chain in the group of four inputs at `input`, in the steps that a pair takes. What
// activations load, they load once for all panels.
template <typename Lanes, int kRows, int kPanels, typename Activations, typename Panels>
[[gnu::always_inline]] inline void AddGroup(const decltype(Activations::data) (&rows)[kRows],
                                            const decltype(Panels::data) (&columns)[kPanels],
                                            int64_t input, int chain,
                                            Tile<Lanes, kRows, kPanels>& sum) {
#pragma GCC unroll 2
  for (int step = 0; step < Activations::kStepsPerPair; ++step) {
    Lanes weights[kPanels];
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) {
      const auto* const group = columns[p] + input * kVectorLanes / Panels::kPerUnit;
      weights[p] = Panels::Load(group, chain, step);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Lanes activations = Activations::Load(rows[r] + input, chain, step);
#pragma GCC unroll 8
      for (int p = 0; p < kPanels; ++p) {
        sum.at[r][p] = Activations::Add(activations, weights[p], sum.at[r][p]);
      }
    }
  }
}

// Whether Lanes sums blocks of one row and these panels in a way of its own.
template <typename Lanes, typename Panels>
inline constexpr bool kHasOwnBlocks = false;
template <typename Lanes>
requires requires { &Lanes::template AddFp8Block<1>; }
inline constexpr bool kHasOwnBlocks<Lanes, WidenedCodePanels<Lanes, Fp8Code>> = true;

// sum += the blocks of the inputs [begin, end); begin is a multiple of 32, end one of 4. With each block,
// `prefetch` fetches a part of what comes next.
template <typename Lanes, int kRows, int kPanels, typename Activations, typename Panels,
          typename Prefetching>
[[gnu::always_inline]] inline void AddSumBlocks(const Activations& x, const Panels& panels,
                                                int begin, int end, Prefetching& prefetch,
                                                Tile<Lanes, kRows, kPanels>& sum) {
  using T = Tile<Lanes, kRows, kPanels>;
  decltype(x.data) rows[kRows];
  decltype(panels.data) columns[kPanels];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) rows[r] = x.data + r * x.row_stride;
#pragma GCC unroll 8
  for (int p = 0; p < kPanels; ++p) columns[p] = panels.data + p * panels.panel_stride;
  for (int64_t block = begin; block < end; block += kSumBlock) {
    prefetch.FetchBlock();
    if constexpr (kRows == 1 && kHasOwnBlocks<Lanes, Panels>) {
      decltype(panels.data) groups[kPanels];
#pragma GCC unroll 8
      for (int p = 0; p < kPanels; ++p) groups[p] = columns[p] + block * kVectorLanes;
      if (block + kSumBlock <= end && Lanes::AddFp8Block(rows[0] + block, groups, sum.at[0]))
        continue;
    }
    T even = T::Zero();
    T odd = T::Zero();
    const int64_t block_end = block + kSumBlock < end ? block + kSumBlock : end;
    if constexpr (kRows * kPanels > Lanes::kMaxSumsOfBothChains) {
      for (int64_t i = block; i < block_end; i += 4) {
        AddGroup<Lanes, kRows, kPanels, Activations, Panels>(rows, columns, i, 0, even);
      }
      for (int64_t i = block; i < block_end; i += 4) {
        AddGroup<Lanes, kRows, kPanels, Activations, Panels>(rows, columns, i, 1, odd);
      }
    } else if (Lanes::kDotsBf16 && block + kSumBlock <= end) {
      // Without a loop: of eight rounds, whose last one is guessed wrong, it takes an eighth more time.
#pragma GCC unroll 8
      for (int i = 0; i < kSumBlock; i += 4) {
        AddGroup<Lanes, kRows, kPanels, Activations, Panels>(rows, columns, block + i, 0, even);
        AddGroup<Lanes, kRows, kPanels, Activations, Panels>(rows, columns, block + i, 1, odd);
      }
    } else {
      for (int64_t i = block; i < block_end; i += 4) {
        AddGroup<Lanes, kRows, kPanels, Activations, Panels>(rows, columns, i, 0, even);
        AddGroup<Lanes, kRows, kPanels, Activations, Panels>(rows, columns, i, 1, odd);
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
  if constexpr (kMaxRows == 6) {  // of about equal height: low tiles have too few sums to be fast
    while (row < num_rows) {
      const int64_t left = num_rows - row;
      const int64_t num_tiles = (left + kMaxRows - 1) / kMaxRows;
      const int height = static_cast<int>((left + num_tiles - 1) / num_tiles);
      switch (height) {
        case 6:
          body.template operator()<6>(row);
          break;
        case 5:
          body.template operator()<5>(row);
          break;
        case 4:
          body.template operator()<4>(row);
          break;
        case 3:
          body.template operator()<3>(row);
          break;
        case 2:
          body.template operator()<2>(row);
          break;
        default:
          body.template operator()<1>(row);
      }
      row += height;
    }
    return;
  }
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

// How large the tiles of these panels are, and of how many rows at most codes are turned into weights as they
// are loaded: above that they are decoded into memory first.
template <typename Lanes, typename Panels>
struct TileShape {
  static constexpr int kRows = Lanes::kTileRows;
  static constexpr int kSums = Lanes::kTileSums;
  static constexpr int kMostRowsOfCodes = kRows;
};
// Looking codes up takes registers, and two slots of products for 64 codes: one panel's for many rows.
template <typename Lanes, template <typename> typename Code>
struct TileShape<Lanes, CodePanels<Lanes, Code>> {
  static constexpr int kRows = 6;
  static constexpr int kSums = 6;
  static constexpr int kMostRowsOfCodes = Code<Lanes>::kMostRows;
};

// Calls body.operator()<kPanels>(panel) for tiles of panels in [begin, end): kTilePanels at most, and
// as many as kRows rows leave room for.
template <typename Lanes, typename Shape, int kRows, typename Body>
inline void ForEachPanelTile(int begin, int end, Body body) {
  constexpr int kSums = Shape::kSums / kRows;
  constexpr int kRoom = kSums < Lanes::kTilePanels ? kSums : Lanes::kTilePanels;
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

// Of a panel, for a block of inputs.
template <typename Lanes>
inline Lanes ScaleAt(const MatmulJob& job, int panel, int block) {
  if (job.scales == nullptr) {
    const int64_t scale = static_cast<int64_t>(panel) * job.scales_per_row + block;
    return Lanes::LoadBf16(job.output_scales + scale * kVectorLanes);
  }
  const int64_t row = panel * kVectorLanes / job.scale_block_outputs;
  return Lanes::Set(job.scales[row * job.scales_per_row + block]);
}

// x and panels begin with the inputs of the chunk. A function of its own, so that its loop has all the
// registers: inlined into its callers it spills some.
template <typename Lanes, int kRows, int kPanels, typename Activations, typename Panels>
[[gnu::noinline]] void MatmulTile(const MatmulJob& job, const InputChunk& chunk,
                                  const Activations& x, const Panels& panels,
                                  Prefetch<Lanes> prefetch, int64_t row, int panel) {
  using T = Tile<Lanes, kRows, kPanels>;
  const bool is_last = chunk.end == job.num_inputs;
  const int num_inputs = chunk.end - chunk.begin;
  auto out_at = [&](int r, int p) {
    return job.out + (row + r) * job.out_stride + (panel + p) * kVectorLanes;
  };
  auto num_at = [&](int p) {
    const int left = job.num_outputs - (panel + p) * kVectorLanes;
    return left < kVectorLanes ? left : kVectorLanes;
  };
  T result = T::Zero();
  if (chunk.begin > 0) {
    result.ForEach(
        [&](Lanes& lanes, int r, int p) { lanes = LoadStep<Lanes>(out_at(r, p), num_at(p)); });
  }
  // One place only where sums are added: the compiler puts it here and nowhere else.
  const bool is_scaled = job.scales_per_row != 1;
  const int unit = is_scaled ? job.scale_block_inputs : num_inputs;
  int block = is_scaled ? chunk.begin / unit : 0;
  for (int begin = 0; begin < num_inputs; begin += unit, ++block) {
    T sum = is_scaled ? T::Zero() : result;
    AddSumBlocks(x, panels, begin, begin + unit < num_inputs ? begin + unit : num_inputs, prefetch,
                 sum);
    if (is_scaled) {
      result.ForEach([&](Lanes& lanes, int r, int p) {
        lanes = Lanes::Fma(sum.at[r][p], ScaleAt<Lanes>(job, panel + p, block), lanes);
      });
    } else {
      result = sum;
    }
  }
  if (is_last && !is_scaled) {
    result.ForEach([&](Lanes& lanes, int, int p) {
      lanes = Lanes::Fma(lanes, ScaleAt<Lanes>(job, panel + p, 0), Lanes::Set(0.0f));
    });
  }
  result.ForEach([&](Lanes& lanes, int r, int p) {
    if (is_last && job.bias != nullptr) {
      lanes = lanes + LoadStep<Lanes>(job.bias + (panel + p) * kVectorLanes, num_at(p));
    }
    StoreStep(lanes, num_at(p), out_at(r, p));
  });
}

template <typename Shape>
int64_t NumTiles(int64_t num_rows, int num_panels) {
  constexpr int kPanels = Shape::kSums / Shape::kRows;
  return (num_rows + Shape::kRows - 1) / Shape::kRows * ((num_panels + kPanels - 1) / kPanels);
}

// All rows against the panels [begin, end).
template <typename Lanes, typename Activations, typename Panels>
void MatmulPanels(const MatmulJob& job, const InputChunk& chunk, const Activations& x,
                  const Panels& panels, const PrefetchPlan<Lanes>& plan, int begin, int end) {
  using Shape = TileShape<Lanes, Panels>;
  int64_t tile = 0;
  ForEachRowTile<Shape::kRows>(job.num_rows, [&]<int kRows>(int64_t row) {
    const Activations rows = {x.data + row * x.row_stride, x.row_stride};
    ForEachPanelTile<Lanes, Shape, kRows>(begin, end, [&]<int kPanels>(int panel) {
      const Panels some = {panels.data + (panel - begin) * panels.panel_stride,
                           panels.panel_stride};
      const Prefetch<Lanes> prefetch = plan.template ForTile<kPanels>(tile++, panel - begin);
      MatmulTile<Lanes, kRows, kPanels>(job, chunk, rows, some, prefetch, row, panel);
    });
  });
}

// The first inputs of panels of codes, as panels of the form.
template <typename Lanes, typename Form, typename Panels>
typename Form::Panels Decode(const Panels& panels, int num_panels, int num_inputs, float* decoded) {
  auto* const to = reinterpret_cast<typename Form::Value*>(decoded);
  const int64_t decoded_stride = static_cast<int64_t>(num_inputs) * kVectorLanes;
  for (int p = 0; p < num_panels; ++p) {
    for (int64_t i = 0; i < num_inputs; i += 4) {
      const auto* const group =
          panels.data + p * panels.panel_stride + i * kVectorLanes / Panels::kPerUnit;
      auto* const decoded_group = to + p * decoded_stride + i * kVectorLanes;
      for (int chain = 0; chain < 2; ++chain) {
        for (int step = 0; step < Form::Activations::kStepsPerPair; ++step) {
          Form::Panels::Store(Panels::Load(group, chain, step), chain, step, decoded_group);
        }
      }
    }
  }
  return {to, decoded_stride};
}

// The chunk behind `begin`, up to `end`: as many whole blocks of scales as `most` inputs hold, but at
// least one.
template <typename Lanes>
InputChunk NextChunk(const MatmulJob& job, int begin, int end, int most) {
  const int unit = job.scales_per_row == 1 ? kSumBlock : job.scale_block_inputs;
  const int num = unit >= most ? unit : most / unit * unit;
  return {begin, end - begin < num ? end : begin + num};
}

template <typename Lanes, typename Panels>
Panels PanelsAt(const Panels& panels, int panel, int input) {
  return {panels.data + panel * panels.panel_stride +
              static_cast<int64_t>(input) * kVectorLanes / Panels::kPerUnit,
          panels.panel_stride};
}

template <typename Lanes, typename Panels>
PrefetchPlan<Lanes> PlanFor(const Panels& next, int num_inputs, int num_panels, bool is_one_tile,
                            int64_t num_tiles) {
  constexpr int kUnitBytes = sizeof(*next.data);
  return PrefetchPlan<Lanes>::Make(
      {.from = reinterpret_cast<const uint8_t*>(next.data),
       .panel_stride = next.panel_stride * kUnitBytes,
       .num_panels = num_panels,
       .num_blocks = (num_inputs + kSumBlock - 1) / kSumBlock,
       .block_bytes = kSumBlock * kVectorLanes * kUnitBytes / Panels::kPerUnit},
      is_one_tile, num_tiles);
}

// All rows against the panels [begin, end); what is multiplied next is `next`.
template <typename Lanes, typename Form, typename Panels>
void MatmulChunk(const MatmulJob& job, const InputChunk& chunk, const Panels& panels,
                 const Panels& next, int begin, int end) {
  using Shape = TileShape<Lanes, Panels>;
  const bool is_one_tile = job.num_rows <= Shape::kRows;
  const int num_inputs = chunk.end - chunk.begin;
  const auto plan = PlanFor<Lanes>(next, num_inputs, end - begin, is_one_tile,
                                   NumTiles<Shape>(job.num_rows, end - begin));
  auto x = Form::RowsAt(job.x, job.x_stride);
  x.data += chunk.begin;
  const Panels some = PanelsAt<Lanes>(panels, begin, chunk.begin);
  // Weights that have another form in memory are decoded as they are loaded, unless they would be for too
  // many tiles of rows, one after the other.
  if (sizeof(*panels.data) != sizeof(typename Form::Value) &&
      job.num_rows > Shape::kMostRowsOfCodes) {
    MatmulPanels<Lanes>(job, chunk, x,
                        Decode<Lanes, Form>(some, end - begin, num_inputs, job.decoded), plan,
                        begin, end);
  } else {
    MatmulPanels<Lanes>(job, chunk, x, some, plan, begin, end);
  }
}

// Calls body(chunk, next, begin, end) for chunks of at most most_inputs inputs of the panels [begin,
// end), which stay in the cache while all rows meet them; `next` is what is multiplied after that: what
// lies behind in these panels, then the next panels. Panels are long, because a tile takes some time
// to begin and to end, but the inputs of all rows should stay in the L2 cache.
template <typename Lanes, typename Panels, typename Body>
void ForEachChunk(const MatmulJob& job, const Panels& panels, int most_inputs, int panels_at_once,
                  Body body) {
  constexpr int kLongInputs = 2048;  // 256 rows of bf16: 1 MiB
  const int num_panels = (job.num_outputs + kVectorLanes - 1) / kVectorLanes;
  const int panel_end = job.panel_end < num_panels ? job.panel_end : num_panels;
  InputChunk all = {0, 0};
  while (all.end < job.num_inputs) {
    all = NextChunk<Lanes>(job, all.end, job.num_inputs, kLongInputs);
    for (int begin = job.panel_begin; begin < panel_end; begin += panels_at_once) {
      const int end = begin + panels_at_once < panel_end ? begin + panels_at_once : panel_end;
      InputChunk chunk = {all.begin, all.begin};
      while (chunk.end < all.end) {
        chunk = NextChunk<Lanes>(job, chunk.end, all.end, most_inputs);
        body(chunk,
             chunk.end < all.end ? PanelsAt<Lanes>(panels, begin, chunk.end)
             : end < panel_end   ? PanelsAt<Lanes>(panels, end, all.begin)
                                 : PanelsAt<Lanes>(panels, job.panel_begin, all.end),
             begin, end);
      }
    }
  }
}

template <typename Lanes, typename Form, typename Panels, typename Value>
void MatmulOfType(const MatmulJob& job) {
  // Two panels of bf16 are 64 KiB. A tile of rows alone reads panels but once.
  constexpr int kInputsOfManyTiles = 2048 / sizeof(typename Form::Value);
  constexpr int kInputsOfOneTile = 1024;
  const int64_t panel_size = static_cast<int64_t>(job.num_inputs) * kVectorLanes;
  const Panels panels = {static_cast<const Value*>(job.panels), panel_size / Panels::kPerUnit};
  const bool is_one_tile = job.num_rows <= TileShape<Lanes, Panels>::kRows;
  ForEachChunk<Lanes>(job, panels, is_one_tile ? kInputsOfOneTile : kInputsOfManyTiles,
                      is_one_tile ? 4 : kMaxDecodedPanels,
                      [&](const InputChunk& chunk, const Panels& next, int begin, int end) {
                        MatmulChunk<Lanes, Form>(job, chunk, panels, next, begin, end);
                      });
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
