// Matmul with tile registers (tiles_model.h): the same canonical sum, because it is that of their
// instruction.
//
// Tiles want inputs in their own order, which PairForm has not (operands-inl.h): activations are
// prepared so, and of a weight two panels at a time are turned, or decoded, into memory that stays in
// the L1 cache while all rows meet them. That costs some eight instructions for 64 products per row;
// for few rows the vector path, which reads panels as they are, takes no longer.
//
// Everything is a template over Lanes and Tiles: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_TILE_MATMUL_INL_H_
#define ORRERY_KERNELS_CPU_TILE_MATMUL_INL_H_

#include <stdint.h>

#include "kernels/cpu/lane_kernels-inl.h"

namespace orrery {

// For a group of four inputs of a panel (128 bytes of bf16) vectors take two instructions per row.
// Tiles take some eight to turn it, and then, with their 16 cycles for 32 inputs, two more for up to 16
// rows. Below 8 rows, moreover, both wait for memory: 128 bytes are 10 ns at 13 GB/s.
inline constexpr int kMinTileRows = 8;
// Rows of a tile register.
inline constexpr int kMaxTileRows = 16;

template <typename Lanes>
bool UsesTiles(bool is_rounded, int64_t num_rows) {
  return is_rounded && num_rows >= kMinTileRows;
}

// bf16 in the order of the inputs: rows [input], panels [input / 2][16 outputs][2].
template <typename Lanes>
struct TileForm {
  using Value = uint16_t;
  static void StoreInputs(Lanes x, Value* to) { x.StoreBf16(to); }
  // Both chains of a group.
  static void StoreGroup(Lanes even, Lanes odd, Value* group) {
    Lanes::JoinUpper(odd, even).StoreBits(group);
    Lanes::JoinLower(odd, even).StoreBits(group + 2 * kVectorLanes);
  }
};

template <typename Lanes>
void PrepareTileRows(const PrepareJob& job) {
  if (!UsesTiles<Lanes>(job.round, job.num_product_rows)) return PrepareRows<Lanes>(job);
  for (int64_t r = 0; r < job.num_rows; ++r) {
    auto* const to = reinterpret_cast<uint16_t*>(job.to + r * job.to_stride);
    PrepareRow<TileForm<Lanes>, Lanes>(job.from + r * job.from_stride, job.num, job.padded,
                                       /*round=*/true, to);
  }
}

// A product of some rows with a chunk of at most two panels.
template <typename Lanes, typename Tiles>
struct TileJob {
  const MatmulJob& job;
  Tiles& tiles;
  int rows_per_tile;
  InputChunk chunk;
  const uint16_t* x;       // first row, first input of the chunk
  const uint16_t* panels;  // in TileForm, of the chunk
  int first_panel;
  Prefetch<Lanes> prefetch;

  int num_inputs() const { return chunk.end - chunk.begin; }
  int64_t panel_size() const { return static_cast<int64_t>(num_inputs()) * kVectorLanes; }
  int64_t x_stride() const { return 2 * job.x_stride; }
};

// sums (the registers 2 * row tile + panel) += the inputs [begin, end) of the chunk.
template <int kRowTiles, int kPanels, typename Lanes, typename Tiles>
void AddTileBlocks(TileJob<Lanes, Tiles>& t, int64_t row, int begin, int end) {
  const uint16_t* const x = t.x + row * t.x_stride();
  const int64_t x_bytes = t.x_stride() * sizeof(uint16_t);
  constexpr int kLine = 4 * kVectorLanes;
  for (int64_t i = begin; i < end; i += kSumBlock) {
    t.prefetch.FetchBlock();
    t.tiles.template Load<6>(t.panels + i * kVectorLanes, kLine);
    if constexpr (kPanels == 2) {
      t.tiles.template Load<7>(t.panels + t.panel_size() + i * kVectorLanes, kLine);
    }
    t.tiles.template Load<4>(x + i, x_bytes);
    t.tiles.template Multiply<0, 4, 6>();
    if constexpr (kPanels == 2) t.tiles.template Multiply<1, 4, 7>();
    if constexpr (kRowTiles == 2) {
      t.tiles.template Load<5>(x + t.rows_per_tile * t.x_stride() + i, x_bytes);
      t.tiles.template Multiply<2, 5, 6>();
      if constexpr (kPanels == 2) t.tiles.template Multiply<3, 5, 7>();
    }
  }
}

// Sums on their way between registers and results, of the same numbers as the registers.
template <typename Lanes>
struct TileSums {
  alignas(64) float at[4][kMaxTileRows * kVectorLanes];

  // Calls body(sum, row, panel) for the rows that there are.
  template <int kRowTiles, int kPanels, typename Tiles, typename Body>
  void ForEach(const TileJob<Lanes, Tiles>& t, int64_t row, Body body) {
    for (int tile = 0; tile < kRowTiles; ++tile) {
      const int64_t first = row + tile * t.rows_per_tile;
      const int64_t left = t.job.num_rows - first;
      const int num_rows = static_cast<int>(left < t.rows_per_tile ? left : t.rows_per_tile);
      for (int r = 0; r < num_rows; ++r) {
        for (int p = 0; p < kPanels; ++p) {
          body(at[2 * tile + p] + r * kVectorLanes, first + r, t.first_panel + p);
        }
      }
    }
  }
  template <int kRowTiles, int kPanels, typename Tiles>
  void ToRegisters(Tiles& tiles) {
    constexpr int kLine = 4 * kVectorLanes;
    tiles.template Load<0>(at[0], kLine);
    if constexpr (kPanels == 2) tiles.template Load<1>(at[1], kLine);
    if constexpr (kRowTiles == 2) tiles.template Load<2>(at[2], kLine);
    if constexpr (kRowTiles == 2 && kPanels == 2) tiles.template Load<3>(at[3], kLine);
  }
  template <int kRowTiles, int kPanels, typename Tiles>
  void FromRegisters(Tiles& tiles) {
    constexpr int kLine = 4 * kVectorLanes;
    tiles.template Store<0>(at[0], kLine);
    if constexpr (kPanels == 2) tiles.template Store<1>(at[1], kLine);
    if constexpr (kRowTiles == 2) tiles.template Store<2>(at[2], kLine);
    if constexpr (kRowTiles == 2 && kPanels == 2) tiles.template Store<3>(at[3], kLine);
  }
};

template <typename Tiles>
void ZeroSums(Tiles& tiles) {
  tiles.template Zero<0>();
  tiles.template Zero<1>();
  tiles.template Zero<2>();
  tiles.template Zero<3>();
}

// kRowTiles tiles of rows, from `row` on, against the chunk; between chunks sums wait in `out`.
template <int kRowTiles, int kPanels, typename Lanes, typename Tiles>
void MatmulTiles(TileJob<Lanes, Tiles> t, int64_t row) {
  const MatmulJob& job = t.job;
  const bool is_last = t.chunk.end == job.num_inputs;
  const int unit = job.scales_per_row == 1 ? t.num_inputs() : job.scale_block_inputs;
  TileSums<Lanes> sums;
  auto out_at = [&](int64_t r, int panel) {
    return job.out + r * job.out_stride + panel * kVectorLanes;
  };
  auto num_at = [&](int panel) {
    const int left = job.num_outputs - panel * kVectorLanes;
    return left < kVectorLanes ? left : kVectorLanes;
  };
  int block = job.scales_per_row == 1 ? 0 : t.chunk.begin / job.scale_block_inputs;
  for (int begin = 0; begin < t.num_inputs(); begin += unit, ++block) {
    const int end = begin + unit < t.num_inputs() ? begin + unit : t.num_inputs();
    const bool is_end = is_last && end == t.num_inputs();
    const bool is_first = t.chunk.begin + begin == 0;
    if (job.scales_per_row == 1 && !is_first) {
      sums.template ForEach<kRowTiles, kPanels>(t, row, [&](float* sum, int64_t r, int panel) {
        LoadStep<Lanes>(out_at(r, panel), num_at(panel)).Store(sum);
      });
      sums.template ToRegisters<kRowTiles, kPanels>(t.tiles);
    } else {
      ZeroSums(t.tiles);
    }
    AddTileBlocks<kRowTiles, kPanels>(t, row, begin, end);
    sums.template FromRegisters<kRowTiles, kPanels>(t.tiles);
    sums.template ForEach<kRowTiles, kPanels>(t, row, [&](float* sum, int64_t r, int panel) {
      Lanes result = Lanes::Load(sum);
      if (job.scales_per_row != 1) {
        const Lanes before =
            is_first ? Lanes::Set(0.0f) : LoadStep<Lanes>(out_at(r, panel), num_at(panel));
        result = Lanes::Fma(result, ScaleAt<Lanes>(job, panel, block), before);
      } else if (is_end) {
        result = Lanes::Fma(result, ScaleAt<Lanes>(job, panel, 0), Lanes::Set(0.0f));
      }
      if (is_end && job.bias != nullptr) {
        result = result + LoadStep<Lanes>(job.bias + panel * kVectorLanes, num_at(panel));
      }
      StoreStep(result, num_at(panel), out_at(r, panel));
    });
  }
}

// The first inputs of some panels, in TileForm.
template <typename Lanes, typename Panels>
void TurnPanels(const Panels& panels, int num_panels, int num_inputs, uint16_t* to) {
  for (int p = 0; p < num_panels; ++p) {
    for (int64_t i = 0; i < num_inputs; i += 4) {
      const auto* const group =
          panels.data + p * panels.panel_stride + i * kVectorLanes / Panels::kPerUnit;
      TileForm<Lanes>::StoreGroup(Panels::Load(group, 0, 0), Panels::Load(group, 1, 0),
                                  to + (p * static_cast<int64_t>(num_inputs) + i) * kVectorLanes);
    }
  }
}

// All rows against the chunk of the panels [begin, end), two at most.
template <typename Lanes, typename Tiles, typename Panels>
void MatmulTileChunk(const MatmulJob& job, Tiles& tiles, int rows_per_tile, const InputChunk& chunk,
                     const Panels& panels, const Panels& next, int begin, int end) {
  auto* const turned = reinterpret_cast<uint16_t*>(job.decoded);
  TileJob<Lanes, Tiles> t = {.job = job,
                             .tiles = tiles,
                             .rows_per_tile = rows_per_tile,
                             .chunk = chunk,
                             .x = reinterpret_cast<const uint16_t*>(job.x) + chunk.begin,
                             .panels = turned,
                             .first_panel = begin,
                             .prefetch = {}};
  const int64_t rows_at_once = 2 * rows_per_tile;
  const int64_t num_tiles = (job.num_rows + rows_at_once - 1) / rows_at_once;
  const auto plan = PlanFor<Lanes>(next, t.num_inputs(), end - begin, num_tiles == 1, num_tiles);
  TurnPanels<Lanes>(PanelsAt<Lanes>(panels, begin, chunk.begin), end - begin, t.num_inputs(),
                    turned);
  auto multiply = [&]<int kPanels>() {
    for (int64_t row = 0; row < job.num_rows; row += rows_at_once) {
      t.prefetch = plan.template ForTile<kPanels>(row / rows_at_once, 0);
      if (row + rows_per_tile < job.num_rows) {
        MatmulTiles<2, kPanels>(t, row);
      } else {
        MatmulTiles<1, kPanels>(t, row);
      }
    }
  };
  if (end - begin == 2) {
    multiply.template operator()<2>();
  } else {
    multiply.template operator()<1>();
  }
}

template <typename Lanes, typename Tiles, typename Panels, typename Value>
void MatmulOfTiles(const MatmulJob& job) {
  const int64_t panel_size = static_cast<int64_t>(job.num_inputs) * kVectorLanes;
  const Panels panels = {static_cast<const Value*>(job.panels), panel_size / Panels::kPerUnit};
  // Rows are shared out evenly: 17 are 9 and 8, not 16 and 1. The last tile then reads at most
  // kMaxTileRows - 1 rows that are not there; what it makes of them is not stored.
  const int64_t num_tiles = (job.num_rows + kMaxTileRows - 1) / kMaxTileRows;
  const int rows_per_tile = static_cast<int>((job.num_rows + num_tiles - 1) / num_tiles);
  Tiles tiles;
  tiles.Configure(rows_per_tile);
  // Two panels are 32 KiB, of the 48 of an L1 cache.
  constexpr int kInputsOfTiles = 512;
  ForEachChunk<Lanes>(job, panels, kInputsOfTiles, kMaxDecodedPanels,
                      [&](const InputChunk& chunk, const Panels& next, int begin, int end) {
                        MatmulTileChunk<Lanes, Tiles>(job, tiles, rows_per_tile, chunk, panels,
                                                      next, begin, end);
                      });
  tiles.Release();
}

template <typename Lanes, typename Tiles>
void MatmulWithTiles(const MatmulJob& job) {
  if (!UsesTiles<Lanes>(job.is_rounded, job.num_rows)) return Matmul<Lanes>(job);
  switch (job.format) {
    case PanelFormat::kF32:
      return;  // is never multiplied with rounded rows
    case PanelFormat::kBf16:
      return MatmulOfTiles<Lanes, Tiles, PairPanels<Lanes>, uint16_t>(job);
    case PanelFormat::kFp8:
      return MatmulOfTiles<Lanes, Tiles, CodePanels<Lanes, Fp8Code>, uint8_t>(job);
    case PanelFormat::kInt8:
      return MatmulOfTiles<Lanes, Tiles, CodePanels<Lanes, Int8Code>, uint8_t>(job);
    case PanelFormat::kInt4:
      return MatmulOfTiles<Lanes, Tiles, CodePanels<Lanes, Int4Code>, uint8_t>(job);
  }
}

template <typename Lanes, typename Tiles>
constexpr LaneKernels MakeTileKernels() {
  LaneKernels kernels = MakeLaneKernels<Lanes>();
  kernels.name = Tiles::kName;
  kernels.prepare_rows = PrepareTileRows<Lanes>;
  kernels.matmul = MatmulWithTiles<Lanes, Tiles>;
  return kernels;
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_TILE_MATMUL_INL_H_
