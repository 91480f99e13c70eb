// Matmul with tile registers (tiles_model.h): the same canonical sum, because it is that of their
// instruction.
//
//   activations   prepared in the order of tiles; read from the L2 cache, past the L1 cache
//   weights       turned to that order, or decoded, into memory that stays in the L1 cache while all rows
//                 meet it: those of the next chunk while this one is multiplied (tile_turner-inl.h)
//   sums          in registers; between chunks in memory that stays in the L2 cache (TileMemory)
//   results       scaled and stored while the next ones are multiplied (tile_leaver-inl.h)
//
// Everything is a template over Lanes and Tiles: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_TILE_MATMUL_INL_H_
#define ORRERY_KERNELS_CPU_TILE_MATMUL_INL_H_

#include <stdint.h>

#include "kernels/cpu/matmul-inl.h"
#include "kernels/cpu/row_kernels-inl.h"
#include "kernels/cpu/tile_chunks-inl.h"
#include "kernels/cpu/tile_form-inl.h"
#include "kernels/cpu/tile_leaver-inl.h"
#include "kernels/cpu/tile_turner-inl.h"

namespace orrery {

// A row alone is bound by memory, and the vector path reads panels as they are. Vectors take two
// instructions per row for a group of four inputs of a panel; to turn it takes some eight for all rows.
inline constexpr int kMinTileRows = 2;

template <typename Lanes>
bool UsesTiles(bool is_rounded, int64_t num_rows) {
  return is_rounded && num_rows >= kMinTileRows;
}

template <typename Lanes>
void PrepareTileRows(const PrepareJob& job) {
  if (!UsesTiles<Lanes>(job.round, job.num_product_rows)) return PrepareRows<Lanes>(job);
  for (int64_t r = 0; r < job.num_rows; ++r) {
    auto* const to = reinterpret_cast<uint16_t*>(job.to + r * job.to_stride);
    PrepareRow<TileForm<Lanes>, Lanes>(job.from + r * job.from_stride, job.num, job.padded,
                                       /*round=*/true, to);
  }
}

template <typename Lanes, typename Tiles, typename Panels>
class TileProduct {
 public:
  TileProduct(const MatmulJob& job, const Panels& panels)
      : job_(job),
        panels_(panels),
        x_(reinterpret_cast<const uint16_t*>(job.x)),
        x_stride_(2 * job.x_stride),
        unit_(job.scales_per_row == 1 ? job.num_inputs : job.scale_block_inputs),
        memory_(*reinterpret_cast<TileMemory*>(job.decoded)) {
    // Rows are shared out evenly: 17 are 9 and 8, not 16 and 1. The last tile then reads at most 15 rows
    // that are not there; what it makes of them is not stored.
    num_tiles_ =
        static_cast<int>((job.num_rows + TileMemory::kTileRows - 1) / TileMemory::kTileRows);
    rows_per_tile_ = static_cast<int>((job.num_rows + num_tiles_ - 1) / num_tiles_);
  }

  void Run() {
    TileChunks<Lanes> chunks(job_);
    if (chunks.is_done()) return;
    tiles_.Configure(rows_per_tile_);
    turner_.Start(panels_, chunks.now(), 1, memory_.panels[0]);
    for (int half = 0; !chunks.is_done(); half ^= 1) {
      turner_.Finish();
      const TileChunk<Lanes> chunk = chunks.now();
      chunks.Next();
      if (!chunks.is_done()) {
        turner_.Start(panels_, chunks.now(), num_tiles_ * (chunk.num_inputs() / kSumBlock),
                      memory_.panels[half ^ 1]);
      }
      MultiplyChunk(chunk, memory_.panels[half]);
    }
    leaver_.Finish();
    tiles_.Release();
  }

 private:
  static constexpr int kLine = 4 * kVectorLanes;  // bytes of a row of a tile

  int64_t first_row(int tile) const { return int64_t{tile} * rows_per_tile_; }

  void MultiplyChunk(const TileChunk<Lanes>& chunk, const uint16_t* panels) {
    chunk.num_panels == 2 ? MultiplyTiles<2>(chunk, panels) : MultiplyTiles<1>(chunk, panels);
  }

  template <int kPanels>
  void MultiplyTiles(const TileChunk<Lanes>& chunk, const uint16_t* panels) {
    StartSums<kPanels>(SumsBefore(chunk, 0));
    for (int tile = 0; tile < num_tiles_; ++tile) MultiplyTile<kPanels>(chunk, panels, tile);
  }

  // Where sums wait for the chunk, or null if they begin with it.
  const float* SumsBefore(const TileChunk<Lanes>& chunk, int tile) const {
    return chunk.inputs.begin % unit_ == 0 ? nullptr : memory_.waiting[chunk.turn][tile];
  }

  // A tile of rows against the chunk. The registers hold its sums already, and those of the next tile in
  // the end.
  template <int kPanels>
  void MultiplyTile(const TileChunk<Lanes>& chunk, const uint16_t* panels, int tile) {
    const uint16_t* const x = x_ + first_row(tile) * x_stride_;
    for (int begin = chunk.inputs.begin; begin < chunk.inputs.end;) {
      const int unit_begin = begin / unit_ * unit_;
      const int unit_end =
          unit_begin + unit_ < job_.num_inputs ? unit_begin + unit_ : job_.num_inputs;
      const int end = unit_end < chunk.inputs.end ? unit_end : chunk.inputs.end;
      AddBlocks<kPanels>(x + begin, panels + (begin - chunk.inputs.begin) * kVectorLanes,
                         chunk.num_inputs(), end - begin);
      const bool is_last = end == chunk.inputs.end;
      const float* const next =
          is_last && tile + 1 < num_tiles_ ? SumsBefore(chunk, tile + 1) : nullptr;
      if (end < unit_end) {
        ExchangeSums<kPanels>(memory_.waiting[chunk.turn][tile], next);
      } else {
        float* const leaving = memory_.leaving[leaving_ ^= 1];
        ExchangeSums<kPanels>(leaving, next);
        leaver_.Finish();
        const int64_t left = job_.num_rows - first_row(tile);
        leaver_.Start(job_,
                      {.at = leaving,
                       .row = first_row(tile),
                       .num_rows = static_cast<int>(left < rows_per_tile_ ? left : rows_per_tile_),
                       .panel = chunk.first_panel,
                       .num_panels = kPanels,
                       .inputs = {unit_begin, unit_end}},
                      (end - begin) / kSumBlock);
      }
      begin = end;
    }
  }

  template <int kPanels>
  void AddBlocks(const uint16_t* x, const uint16_t* panels, int panel_inputs, int num_inputs) {
    const int64_t x_bytes = x_stride_ * sizeof(uint16_t);
    const int64_t next_panel = int64_t{panel_inputs} * kVectorLanes;
    for (int i = 0; i < num_inputs; i += kSumBlock) {
      const uint16_t* const block = panels + i * kVectorLanes;
      tiles_.template LoadOnce<4>(x + i, x_bytes);
      AddPanel<0>(block);
      if constexpr (kPanels == 2) AddPanel<1>(block + next_panel);
      turner_.Step();
      leaver_.Step();
    }
  }
  template <int kPanel>
  void AddPanel(const uint16_t* block) {
    tiles_.template Load<6>(block, kLine);
    tiles_.template Multiply<kPanel, 4, 6>();
  }

  template <int kTile>
  void StartSum(const float* from) {
    if (from == nullptr) {
      tiles_.template Zero<kTile>();
    } else {
      tiles_.template Load<kTile>(from + kTile * TileMemory::kTileValues, kLine);
    }
  }
  template <int kPanels>
  void StartSums(const float* from) {
    StartSum<0>(from);
    if constexpr (kPanels == 2) StartSum<1>(from);
  }
  // One register after the other, so that none waits for all.
  template <int kTile>
  void ExchangeSum(float* to, const float* next) {
    tiles_.template Store<kTile>(to + kTile * TileMemory::kTileValues, kLine);
    StartSum<kTile>(next);
  }
  template <int kPanels>
  void ExchangeSums(float* to, const float* next) {
    ExchangeSum<0>(to, next);
    if constexpr (kPanels == 2) ExchangeSum<1>(to, next);
  }

  const MatmulJob& job_;
  const Panels panels_;
  const uint16_t* const x_;
  const int64_t x_stride_;
  const int unit_;  // inputs that are summed before a scale meets the sum
  TileMemory& memory_;
  int num_tiles_;  // of rows
  int rows_per_tile_;
  Tiles tiles_;
  Turner<Lanes, Panels> turner_;
  Leaver<Lanes> leaver_;
  int leaving_ = 0;
};

template <typename Lanes, typename Tiles, typename Panels, typename Value>
void MatmulOfTiles(const MatmulJob& job) {
  const int64_t panel_size = static_cast<int64_t>(job.num_inputs) * kVectorLanes;
  const Panels panels = {static_cast<const Value*>(job.panels), panel_size / Panels::kPerUnit};
  TileProduct<Lanes, Tiles, Panels>(job, panels).Run();
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

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_TILE_MATMUL_INL_H_
