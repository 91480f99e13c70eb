// What a product with tile registers multiplies one after the other.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_TILE_CHUNKS_INL_H_
#define ORRERY_KERNELS_CPU_TILE_CHUNKS_INL_H_

#include <stdint.h>

#include "kernels/cpu/matmul-inl.h"

namespace orrery {

// How a product is cut. A tile of rows meets two panels, and sources have a register each: four registers in
// all. Eight are there, but the threads of a core share what these are renamed to: beside another that
// computes, a product whose eight are in use takes about twice as long as one with four.
struct TileCut {
  static constexpr int kPanels = 2;
  static constexpr int kInputs = 512;       // of panels in the L1 cache
  static constexpr int kLongInputs = 1024;  // of all rows in the L2 cache: of 256 rows 512 KiB
};
static_assert(TileMemory::kPanelValues >= TileCut::kPanels * TileCut::kInputs * kVectorLanes);

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
  explicit TileChunks(const MatmulJob& job) : job_(job) {
    const int num_panels = (job.num_outputs + kVectorLanes - 1) / kVectorLanes;
    panel_end_ = job.panel_end < num_panels ? job.panel_end : num_panels;
    StartGroup(job.panel_begin);
  }

  const TileChunk<Lanes>& now() const { return now_; }
  bool is_done() const { return now_.first_panel >= panel_end_; }

  void Next() {
    if (now_.inputs.end < long_end_) return StartChunk(now_.inputs.end);
    if (now_.first_panel + TileCut::kPanels < group_end_) return StartTurn(now_.turn + 1);
    if (long_end_ < job_.num_inputs) return StartLongInputs(long_end_);
    StartGroup(group_end_);
  }

 private:
  void StartGroup(int panel) {
    const int end = panel + TileMemory::kTurns * TileCut::kPanels;
    group_begin_ = panel;
    group_end_ = end < panel_end_ ? end : panel_end_;
    StartLongInputs(0);
  }
  void StartLongInputs(int begin) {
    long_begin_ = begin;
    long_end_ = begin + Part(job_.num_inputs - begin, TileCut::kLongInputs);
    StartTurn(0);
  }
  void StartTurn(int turn) {
    now_.turn = turn;
    now_.first_panel = group_begin_ + turn * TileCut::kPanels;
    const int left = group_end_ - now_.first_panel;
    now_.num_panels = left < TileCut::kPanels ? left : TileCut::kPanels;
    StartChunk(long_begin_);
  }
  void StartChunk(int begin) {
    now_.inputs = {begin, begin + Part(long_end_ - begin, TileCut::kInputs)};
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
  int panel_end_;
  int group_begin_, group_end_;  // panels
  int long_begin_, long_end_;    // inputs
  TileChunk<Lanes> now_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_TILE_CHUNKS_INL_H_
