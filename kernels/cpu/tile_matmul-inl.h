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

#include "kernels/cpu/matmul-inl.h"
#include "kernels/cpu/row_kernels-inl.h"

namespace orrery {

// For a group of four inputs of a panel (128 bytes of bf16) vectors take two instructions per row.
// Tiles take some eight to turn it, and then, with their 16 cycles for 32 inputs, two more for up to 16
// rows. Below 8 rows, moreover, both wait for memory: 128 bytes are 10 ns at 13 GB/s.
inline constexpr int kMinTileRows = 2;
template <typename Lanes>
bool UsesTiles(bool is_rounded, int64_t num_rows) {
  return is_rounded && num_rows >= kMinTileRows;
}

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

template <typename Lanes>
void PrepareTileRows(const PrepareJob& job) {
  if (!UsesTiles<Lanes>(job.round, job.num_product_rows)) return PrepareRows<Lanes>(job);
  for (int64_t r = 0; r < job.num_rows; ++r) {
    auto* const to = reinterpret_cast<uint16_t*>(job.to + r * job.to_stride);
    PrepareRow<TileForm<Lanes>, Lanes>(job.from + r * job.from_stride, job.num, job.padded,
                                       /*round=*/true, to);
  }
}

// How a product is cut. Many rows: two tiles of rows with two panels, so that each load serves two
// products, of inputs that stay in the caches. One tile of rows: four panels, of few inputs, because
// nothing is used twice.
struct TileCut {
  int num_panels;
  int num_inputs;       // of panels in the L1 cache
  int num_long_inputs;  // of all rows in the L2 cache: of 256 rows 512 KiB
};
inline constexpr TileCut kCutOfOneTile = {4, 128, 1 << 20};
inline constexpr TileCut kCutOfOnePair = {2, 256, 1 << 20};
inline constexpr TileCut kCutOfManyRows = {2, 512, 1024};
static_assert(TileMemory::kPanelValues >= 2 * 512 * kVectorLanes);

// Some inputs of some panels, which all rows meet while they are in the cache.
template <typename Lanes>
struct TileChunk {
  InputChunk inputs;
  int first_panel;
  int num_panels;
  int turn;  // of TileMemory::waiting

  int num_inputs() const { return inputs.end - inputs.begin; }
};

// The chunks of a job in the order in which they are multiplied.
template <typename Lanes>
class TileChunks {
 public:
  TileChunks(const MatmulJob& job, const TileCut& cut) : job_(job), cut_(cut) {
    const int num_panels = (job.num_outputs + kVectorLanes - 1) / kVectorLanes;
    panel_end_ = job.panel_end < num_panels ? job.panel_end : num_panels;
    StartGroup(job.panel_begin);
  }

  const TileChunk<Lanes>& now() const { return now_; }
  bool is_done() const { return now_.first_panel >= panel_end_; }

  void Next() {
    if (now_.inputs.end < long_end_) return StartChunk(now_.inputs.end);
    if (now_.first_panel + cut_.num_panels < group_end_) return StartTurn(now_.turn + 1);
    if (long_end_ < job_.num_inputs) return StartLongInputs(long_end_);
    StartGroup(group_end_);
  }

 private:
  void StartGroup(int panel) {
    const int end = panel + TileMemory::kTurns * cut_.num_panels;
    group_begin_ = panel;
    group_end_ = end < panel_end_ ? end : panel_end_;
    StartLongInputs(0);
  }
  void StartLongInputs(int begin) {
    long_begin_ = begin;
    long_end_ = begin + Part(job_.num_inputs - begin, cut_.num_long_inputs);
    StartTurn(0);
  }
  void StartTurn(int turn) {
    now_.turn = turn;
    now_.first_panel = group_begin_ + turn * cut_.num_panels;
    const int left = group_end_ - now_.first_panel;
    now_.num_panels = left < cut_.num_panels ? left : cut_.num_panels;
    StartChunk(long_begin_);
  }
  void StartChunk(int begin) {
    now_.inputs = {begin, begin + Part(long_end_ - begin, cut_.num_inputs)};
  }

  // The first of as many equal parts as it takes for each to be at most `most`: between two of them all
  // sums go to memory and back. They end with blocks of scales, if these are short.
  int Part(int num, int most) const {
    const int unit = job_.scales_per_row == 1 || job_.scale_block_inputs > most
                         ? kSumBlock
                         : job_.scale_block_inputs;
    const int num_parts = (num + most - 1) / most;
    const int even = RoundUpTo<Lanes>(unit, (num + num_parts - 1) / num_parts);
    const int part = even < most / unit * unit ? even : most / unit * unit;
    return part < num ? part : num;
  }

  const MatmulJob& job_;
  const TileCut cut_;
  int panel_end_;
  int group_begin_, group_end_;  // panels
  int long_begin_, long_end_;    // inputs
  TileChunk<Lanes> now_;
};

// Turns the panels of a chunk to TileForm, bit by bit while another is multiplied. It reads in four
// places at once: hardware fetches ahead within a page of memory, and faster in four pages than in one.
template <typename Lanes, typename Panels>
class Turner {
 public:
  // To be finished within so many steps.
  void Start(const Panels& panels, const TileChunk<Lanes>& chunk, int64_t num_steps, uint16_t* to) {
    const Panels some = PanelsAt<Lanes>(panels, chunk.first_panel, chunk.inputs.begin);
    const int streams_per_panel = kStreams / chunk.num_panels;
    const int num_groups = chunk.num_inputs() / 4 / streams_per_panel;
    for (int stream = 0; stream < kStreams; ++stream) {
      // Of three panels the first is turned twice.
      const int panel = stream / streams_per_panel % chunk.num_panels;
      const int group = stream % streams_per_panel * num_groups;
      from_[stream] = some.data + panel * some.panel_stride + int64_t{group} * kGroupUnits;
      to_[stream] = to + (panel * chunk.num_inputs() + group * 4) * kVectorLanes;
    }
    groups_left_ = num_groups;
    groups_per_step_ = static_cast<int>((num_groups + num_steps - 1) / num_steps);
  }
  void Step() { Turn(groups_per_step_); }
  void Finish() { Turn(groups_left_); }

 private:
  using Units = decltype(Panels::data);
  static constexpr int kStreams = 4;
  static constexpr int kGroupUnits = 4 * kVectorLanes / Panels::kPerUnit;

  void Turn(int num_groups) {
    const int num = num_groups < groups_left_ ? num_groups : groups_left_;
    groups_left_ -= num;
    for (int i = 0; i < num; ++i) {
#pragma GCC unroll 4
      for (int stream = 0; stream < kStreams; ++stream) {
        Lanes first_two, last_two;
        Panels::LoadInOrder(from_[stream] + int64_t{i} * kGroupUnits, first_two, last_two);
        TileForm<Lanes>::StoreGroup(first_two, last_two,
                                    to_[stream] + int64_t{i} * 4 * kVectorLanes);
      }
    }
    for (int stream = 0; stream < kStreams; ++stream) {
      from_[stream] += int64_t{num} * kGroupUnits;
      to_[stream] += int64_t{num} * 4 * kVectorLanes;
    }
  }

  Units from_[kStreams] = {};
  uint16_t* to_[kStreams] = {};
  int groups_left_ = 0;  // of each stream
  int groups_per_step_ = 0;
};

// Takes whole sums to `out`, some rows at a time while the next ones are multiplied.
template <typename Lanes>
class Leaver {
 public:
  struct Sums {
    const float* at;  // TileMemory::leaving
    int64_t row;      // the first
    int num_rows;
    int rows_per_tile;
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
      LeaveWholePanels<2>(end);
    } else if (are_whole && sums_.num_panels == 4) {
      LeaveWholePanels<4>(end);
    } else {
      LeaveSome(end);
    }
    row_ = end;
  }
  const float* SumsOf(int row) const {
    const int tile = row < sums_.rows_per_tile ? 0 : 1;
    return sums_.at + 2 * tile * TileMemory::kTileValues +
           (row - tile * sums_.rows_per_tile) * kVectorLanes;
  }

  // What is most frequent. No member is read meanwhile: for all the compiler knows, stores go there.
  template <int kPanels>
  void LeaveWholePanels(int end) {
    Lanes scales[kPanels];
    for (int p = 0; p < kPanels; ++p) scales[p] = scale_[p];
    const bool adds = adds_;
    const int64_t out_stride = out_stride_;
    const int second_tile = sums_.rows_per_tile;
    float* out = out_ + row_ * out_stride;
    for (int row = row_; row < end;) {
      const float* sum = SumsOf(row);
      const int tile_end = row < second_tile && second_tile < end ? second_tile : end;
      for (; row < tile_end; ++row, sum += kVectorLanes, out += out_stride) {
#pragma GCC unroll 4
        for (int p = 0; p < kPanels; ++p) {
          float* const to = out + p * kVectorLanes;
          const Lanes before = adds ? Lanes::Load(to) : Lanes::Set(0.0f);
          Lanes::Fma(Lanes::Load(sum + p * TileMemory::kTileValues), scales[p], before).Store(to);
        }
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
  Lanes scale_[4];
};

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
    const int64_t num_tiles = (job.num_rows + TileMemory::kTileRows - 1) / TileMemory::kTileRows;
    rows_per_tile_ = static_cast<int>((job.num_rows + num_tiles - 1) / num_tiles);
    num_pairs_ = (num_tiles + 1) / 2;
    cut_ = num_tiles == 1 ? kCutOfOneTile : num_tiles == 2 ? kCutOfOnePair : kCutOfManyRows;
  }

  void Run() {
    TileChunks<Lanes> chunks(job_, cut_);
    if (chunks.is_done()) return;
    tiles_.Configure(rows_per_tile_);
    turner_.Start(panels_, chunks.now(), 1, memory_.panels[0]);
    for (int turn = 0; !chunks.is_done(); turn ^= 1) {
      turner_.Finish();
      const TileChunk<Lanes> chunk = chunks.now();
      chunks.Next();
      if (!chunks.is_done()) {
        turner_.Start(panels_, chunks.now(), num_pairs_ * (chunk.num_inputs() / kSumBlock),
                      memory_.panels[turn ^ 1]);
      }
      MultiplyChunk(chunk, memory_.panels[turn]);
    }
    leaver_.Finish();
    tiles_.Release();
  }

 private:
  static constexpr int kLine = 4 * kVectorLanes;  // bytes of a row of a tile

  int64_t first_row(int pair) const { return int64_t{2} * pair * rows_per_tile_; }

  void MultiplyChunk(const TileChunk<Lanes>& chunk, const uint16_t* panels) {
    StartSums(SumsBefore(chunk, 0));
    if (cut_.num_panels == 4) {
      MultiplyTile(chunk, panels);
    } else if (chunk.num_panels == 2) {
      MultiplyPairs<2>(chunk, panels);
    } else {
      MultiplyPairs<1>(chunk, panels);
    }
  }

  void MultiplyTile(const TileChunk<Lanes>& chunk, const uint16_t* panels) {
    switch (chunk.num_panels) {
      case 4:
        return MultiplyPair<1, 4>(chunk, panels, 0);
      case 3:
        return MultiplyPair<1, 3>(chunk, panels, 0);
      case 2:
        return MultiplyPair<1, 2>(chunk, panels, 0);
      default:
        return MultiplyPair<1, 1>(chunk, panels, 0);
    }
  }

  template <int kPanels>
  void MultiplyPairs(const TileChunk<Lanes>& chunk, const uint16_t* panels) {
    for (int pair = 0; pair < num_pairs_; ++pair) {
      if (first_row(pair) + rows_per_tile_ < job_.num_rows) {
        MultiplyPair<2, kPanels>(chunk, panels, pair);
      } else {
        MultiplyPair<1, kPanels>(chunk, panels, pair);
      }
    }
  }

  // Where sums wait for the chunk, or null if they begin with it.
  const float* SumsBefore(const TileChunk<Lanes>& chunk, int pair) const {
    return chunk.inputs.begin % unit_ == 0 ? nullptr : memory_.waiting[chunk.turn][pair];
  }

  // A pair of tiles of rows against the chunk. The registers hold its sums already, and those of the next
  // pair in the end.
  template <int kRowTiles, int kPanels>
  void MultiplyPair(const TileChunk<Lanes>& chunk, const uint16_t* panels, int pair) {
    const uint16_t* const x = x_ + first_row(pair) * x_stride_;
    for (int begin = chunk.inputs.begin; begin < chunk.inputs.end;) {
      const int unit_begin = begin / unit_ * unit_;
      const int unit_end =
          unit_begin + unit_ < job_.num_inputs ? unit_begin + unit_ : job_.num_inputs;
      const int end = unit_end < chunk.inputs.end ? unit_end : chunk.inputs.end;
      AddBlocks<kRowTiles, kPanels>(x + begin, panels + (begin - chunk.inputs.begin) * kVectorLanes,
                                    chunk.num_inputs(), end - begin);
      leaver_.Finish();
      const bool is_last = end == chunk.inputs.end;
      const float* const next =
          is_last && pair + 1 < num_pairs_ ? SumsBefore(chunk, pair + 1) : nullptr;
      if (end < unit_end) {
        ExchangeSums<kRowTiles, kPanels>(memory_.waiting[chunk.turn][pair], next);
      } else {
        float* const leaving = memory_.leaving[leaving_ ^= 1];
        ExchangeSums<kRowTiles, kPanels>(leaving, next);
        const int64_t left = job_.num_rows - first_row(pair);
        leaver_.Start(job_,
                      {.at = leaving,
                       .row = first_row(pair),
                       .num_rows = static_cast<int>(
                           left < kRowTiles * rows_per_tile_ ? left : kRowTiles * rows_per_tile_),
                       .rows_per_tile = rows_per_tile_,
                       .panel = chunk.first_panel,
                       .num_panels = kPanels,
                       .inputs = {unit_begin, unit_end}},
                      (end - begin) / kSumBlock);
      }
      begin = end;
    }
  }

  template <int kRowTiles, int kPanels>
  void AddBlocks(const uint16_t* x, const uint16_t* panels, int panel_inputs, int num_inputs) {
    const int64_t x_bytes = x_stride_ * sizeof(uint16_t);
    const int64_t next_tile = rows_per_tile_ * x_stride_;
    const int64_t next_panel = int64_t{panel_inputs} * kVectorLanes;
    for (int i = 0; i < num_inputs; i += kSumBlock) {
      const uint16_t* const block = panels + i * kVectorLanes;
      tiles_.template LoadOnce<4>(x + i, x_bytes);
      tiles_.template Load<6>(block, kLine);
      tiles_.template Multiply<0, 4, 6>();
      if constexpr (kPanels >= 2) {
        tiles_.template Load<7>(block + next_panel, kLine);
        tiles_.template Multiply<1, 4, 7>();
      }
      if constexpr (kPanels >= 3) {
        tiles_.template Load<6>(block + 2 * next_panel, kLine);
        tiles_.template Multiply<2, 4, 6>();
      }
      if constexpr (kPanels >= 4) {
        tiles_.template Load<7>(block + 3 * next_panel, kLine);
        tiles_.template Multiply<3, 4, 7>();
      }
      if constexpr (kRowTiles == 2) {
        tiles_.template LoadOnce<5>(x + next_tile + i, x_bytes);
        tiles_.template Multiply<2, 5, 6>();
        if constexpr (kPanels == 2) tiles_.template Multiply<3, 5, 7>();
      }
      turner_.Step();
      leaver_.Step();
    }
  }

  template <int kTile>
  void StartSum(const float* from) {
    if (from == nullptr) {
      tiles_.template Zero<kTile>();
    } else {
      tiles_.template Load<kTile>(from + kTile * TileMemory::kTileValues, kLine);
    }
  }
  void StartSums(const float* from) {
    StartSum<0>(from);
    StartSum<1>(from);
    StartSum<2>(from);
    StartSum<3>(from);
  }
  // One register after the other, so that none waits for all.
  template <int kTile>
  void ExchangeSum(float* to, const float* next) {
    tiles_.template Store<kTile>(to + kTile * TileMemory::kTileValues, kLine);
    StartSum<kTile>(next);
  }
  template <int kRowTiles, int kPanels>
  void ExchangeSums(float* to, const float* next) {
    ExchangeSum<0>(to, next);
    if constexpr (kPanels >= 2) ExchangeSum<1>(to, next);
    if constexpr (kRowTiles == 2 || kPanels >= 3) ExchangeSum<2>(to, next);
    if constexpr (kRowTiles * kPanels == 4) ExchangeSum<3>(to, next);
  }

  const MatmulJob& job_;
  const Panels panels_;
  const uint16_t* const x_;
  const int64_t x_stride_;
  const int unit_;  // inputs that are summed before a scale meets the sum
  TileMemory& memory_;
  int rows_per_tile_;
  int num_pairs_;
  TileCut cut_;
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
