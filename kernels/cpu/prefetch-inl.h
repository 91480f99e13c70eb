// What a product fetches into the cache while it multiplies: the panels that come next.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_PREFETCH_INL_H_
#define ORRERY_KERNELS_CPU_PREFETCH_INL_H_

#include <stdint.h>

#include "kernels/cpu/lane_kernels.h"

namespace orrery {

// What is fetched into the cache meanwhile: of each stream, so many lines per block of inputs.
template <typename Lanes>
struct Prefetch {
  static constexpr int kLineBytes = 64;
  const uint8_t* streams[4] = {};
  int num_streams = 0;
  int lines_per_block = 0;
  int64_t fetched = 0;  // bytes of each stream

  void FetchBlock() {
    for (int line = 0; line < lines_per_block; ++line) {
      for (int s = 0; s < num_streams; ++s) {
        __builtin_prefetch(streams[s] + fetched, /*rw=*/0, /*locality=*/2);
      }
      fetched += kLineBytes;
    }
  }
};

// The inputs of a chunk (InputChunk in matmul-inl.h), of some panels.
template <typename Lanes>
struct ChunkBytes {
  const uint8_t* from;   // of the first panel
  int64_t panel_stride;  // bytes
  int num_panels;
  int num_blocks;  // of kSumBlock inputs
  int block_bytes;
};

// A tile at work fetches its part of what comes next, so that memory is read all the time, and not
// only by the first tile of rows that meets a panel. One tile of rows alone: of each next panel as
// much as it reads of the present one. Behind the last panel it fetches what nobody reads, which does
// no harm.
template <typename Lanes>
class PrefetchPlan {
 public:
  static PrefetchPlan Make(const ChunkBytes<Lanes>& next, bool is_one_tile, int64_t num_tiles) {
    PrefetchPlan plan;
    plan.next_ = next;
    plan.is_one_tile_ = is_one_tile;
    if (!is_one_tile) {
      const int64_t parts = num_tiles / next.num_panels;
      plan.parts_per_panel_ = parts > 1 ? parts : 1;
    }
    const int64_t part_bytes = next.block_bytes / plan.parts_per_panel_;
    plan.lines_per_block_ = static_cast<int>((part_bytes + Prefetch<Lanes>::kLineBytes - 1) /
                                             Prefetch<Lanes>::kLineBytes);
    plan.part_bytes_ =
        int64_t{next.num_blocks} * plan.lines_per_block_ * Prefetch<Lanes>::kLineBytes;
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
        prefetch.streams[p] = next_.from + (panel + p) * next_.panel_stride;
      }
    } else if (tile / parts_per_panel_ < next_.num_panels) {
      prefetch.num_streams = 1;
      prefetch.streams[0] = next_.from + tile / parts_per_panel_ * next_.panel_stride +
                            tile % parts_per_panel_ * part_bytes_;
    }
    return prefetch;
  }

 private:
  ChunkBytes<Lanes> next_ = {};
  bool is_one_tile_ = false;
  int64_t parts_per_panel_ = 1;
  int64_t part_bytes_ = 0;
  int lines_per_block_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_PREFETCH_INL_H_
