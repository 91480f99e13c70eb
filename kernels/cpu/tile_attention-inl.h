// Attention with tile registers (tiles_model.h) over a cache of bf16: the same steps as in
// attention-inl.h, and the same bits.
//
//   scores    keys, as they lie in the cache  [16 tokens][32 dims]   times queries [32 dims][16 queries]
//   contexts  weights [16 queries][32 tokens]                        plus  times values [32 tokens][16 dims]
//
// The right-hand sides are in TileForm (tile_form-inl.h): pairs of dims, and of tokens. Tokens that
// are not there, up to 32, have the weight -0 and the value 0: their products change no sum.
//
// Everything is a template over Lanes and Tiles: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_TILE_ATTENTION_INL_H_
#define ORRERY_KERNELS_CPU_TILE_ATTENTION_INL_H_

#include <stdint.h>

#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/tile_form-inl.h"

namespace orrery {

template <typename Lanes>
void PackTileQueries(const PackJob& job) {
  if (!job.is_bf16) return PackQueries<Lanes>(job);
  auto* to = reinterpret_cast<uint16_t*>(job.to);
  const auto* const queries = static_cast<const uint16_t*>(job.rows) + job.offset;
  const int64_t panel_stride = RoundUpTo<Lanes>(kSumBlock, job.dim) * kVectorLanes;
  for (int query = 0; query < job.num_rows; query += kVectorLanes, to += panel_stride) {
    const int left = job.num_rows - query;
    PackQueryPanel<Lanes, TileForm<Lanes>>(queries + query * job.row_width, job.row_width,
                                           left < kVectorLanes ? left : kVectorLanes, job.dim, to);
  }
}

// Values of pairs of tokens, in panels of 16 dims; zeros behind the last token, up to 32.
template <typename Lanes>
void PackTileValues(const PackJob& job) {
  auto* const panels = reinterpret_cast<uint16_t*>(job.to);
  const auto* const values = static_cast<const uint16_t*>(job.rows) + job.offset;
  constexpr int kTwoPanels = 2 * kVectorLanes;
  const int64_t width = job.row_width;
  for (int d = 0; d < job.dim; d += kTwoPanels) {
    const int num_dims = job.dim - d < kTwoPanels ? job.dim - d : kTwoPanels;
    const uint16_t* const from = values + d;
    uint16_t* const to = panels + d * kBlockTokens;
    // A second panel that is only padding is not there: its zeros go where the first ones will.
    const int64_t next_panel = num_dims > kVectorLanes ? kBlockTokens * kVectorLanes : 0;
    auto pack = [&](int t, Lanes first, Lanes second) {
      Lanes::JoinLast(second, first).StoreBits(to + next_panel + t * kVectorLanes);
      Lanes::JoinFirst(second, first).StoreBits(to + t * kVectorLanes);
    };
    int t = job.first_row;
    if (num_dims == kTwoPanels) {
      for (; t + 2 <= job.num_rows; t += 2) {
        pack(t, Lanes::LoadBits(from + t * width), Lanes::LoadBits(from + (t + 1) * width));
      }
    }
    auto load = [&](int i) {
      return i < job.num_rows ? LoadBf16Words<Lanes>(from + i * width, num_dims) : Lanes::Set(0.0f);
    };
    for (; t < RoundUpTo<Lanes>(kSumBlock, job.num_rows); t += 2) pack(t, load(t), load(t + 1));
  }
}

// Fetches the rows of the next block in four places at once: hardware goes on ahead of each within its
// page of memory.
template <typename Lanes>
class PlacesPrefetch {
 public:
  static PlacesPrefetch Make(const AttendBlockJob& job, int64_t num_steps) {
    PlacesPrefetch prefetch;
    for (int i = 0; i < kPlaces; ++i) {
      const int begin = job.num_next_rows * i / kPlaces;
      const int end = job.num_next_rows * (i + 1) / kPlaces;
      prefetch.places_[i] = RowPrefetch<Lanes>::Make(job, begin, end, num_steps);
    }
    return prefetch;
  }
  void FetchStep() {
    for (RowPrefetch<Lanes>& place : places_) place.FetchBlock();
  }

 private:
  static constexpr int kPlaces = 4;
  RowPrefetch<Lanes> places_[kPlaces];
};

template <typename Lanes, typename Tiles>
class TileAttention {
 public:
  explicit TileAttention(const AttendBlockJob& job)
      : job_(job),
        num_groups_(NumGroups<Lanes>(job)),
        prefetch_(PlacesPrefetch<Lanes>::Make(job, NumSteps(job))) {}

  void Run() {
    tiles_.Configure(TileMemory::kTileRows);
    Score();
    ForEachGroup<Lanes>(job_, [&](const Group& group) {
      SoftmaxGroup<Lanes, TileForm<Lanes>>(job_, group);
      ShrinkContexts(group);
    });
    GatherAll();
    tiles_.Release();
  }

 private:
  static constexpr int kLine = 4 * kVectorLanes;  // bytes of a row of a tile
  using Group = AttendGroup<Lanes>;

  // Of which each fetches a part of what comes next.
  static int64_t NumSteps(const AttendBlockJob& job) {
    const auto parts = [](int num, int unit) { return (num + unit - 1) / unit; };
    return NumGroups<Lanes>(job) *
           (parts(job.keys.num_rows, 2 * TileMemory::kTileRows) * parts(job.keys.dim, kSumBlock) +
            parts(job.values.dim, 2 * kVectorLanes));
  }

  // Keys are multiplied where they lie, unless tiles would read what is not theirs.
  void Score() {
    PackJob keys = job_.keys;
    const int padded = RoundUpTo<Lanes>(kSumBlock, keys.dim);
    const auto* rows = static_cast<const uint16_t*>(keys.rows) + keys.offset;
    int64_t stride = keys.row_width;
    if (keys.dim != padded || keys.num_rows < TileMemory::kTileRows) {
      auto* const copies = reinterpret_cast<uint16_t*>(keys.to);
      for (int t = 0; t < keys.num_rows; ++t) {
        PrepareKey<Lanes, TileForm<Lanes>>(rows + t * stride, keys.dim, copies + t * padded);
      }
      rows = copies;
      stride = padded;
    }
    const int num_tiles =
        RoundUpTo<Lanes>(TileMemory::kTileRows, keys.num_rows) / TileMemory::kTileRows;
    ForEachPair(0, num_tiles, [&]<int kTokenTiles>(int tile, int g) {
      ScoreTiles<kTokenTiles>(rows, stride, tile * TileMemory::kTileRows, g);
    });
  }

  // Calls body.operator()<kNum>(i, g) for the [begin, end) with each group, two at a time. More sums at
  // once would load less, but see TileCut.
  template <typename Body>
  void ForEachPair(int begin, int end, Body body) const {
    for (int g = 0; g < num_groups_; ++g) {
      for (int i = begin; i < end; i += 2) {
        i + 1 < end ? body.template operator()<2>(i, g) : body.template operator()<1>(i, g);
      }
    }
  }

  // Of 16 tokens: the last ones once more, where fewer are left.
  int FirstOf(int token) const {
    const int last = job_.keys.num_rows - TileMemory::kTileRows;
    return last < 0 || token < last ? token : last;
  }

  // Tiles of tokens with a group.
  template <int kTokenTiles>
  void ScoreTiles(const uint16_t* keys, int64_t stride, int token, int g) {
    const int padded = RoundUpTo<Lanes>(kSumBlock, job_.keys.dim);
    const Group group = GroupAt<Lanes>(job_, g);
    const auto* const queries =
        reinterpret_cast<const uint16_t*>(job_.queries) + group.first * padded;
    const int64_t stride_bytes = stride * sizeof(uint16_t);
    const int first = FirstOf(token);
    const int second = FirstOf(token + TileMemory::kTileRows);
    tiles_.template Zero<0>();
    if constexpr (kTokenTiles == 2) tiles_.template Zero<1>();
    for (int d = 0; d < padded; d += kSumBlock) {
      prefetch_.FetchStep();
      tiles_.template Load<6>(queries + d * kVectorLanes, kLine);
      tiles_.template Load<4>(keys + first * stride + d, stride_bytes);
      tiles_.template Multiply<0, 4, 6>();
      if constexpr (kTokenTiles == 2) {
        tiles_.template Load<4>(keys + second * stride + d, stride_bytes);
        tiles_.template Multiply<1, 4, 6>();
      }
    }
    tiles_.template Store<0>(group.scores + first * kVectorLanes, kLine);
    if constexpr (kTokenTiles == 2) {
      tiles_.template Store<1>(group.scores + second * kVectorLanes, kLine);
    }
  }

  float* ContextOf(int64_t query) const { return job_.context + query * job_.context_stride; }

  void ShrinkContexts(const Group& group) {
    for (int q = group.begin; q < group.end; ++q) {
      if (group.shrink[q] == 1.0f) continue;
      float* const context = ContextOf(group.first + q);
      const Lanes shrink = Lanes::Set(group.shrink[q]);
      for (int d = 0; d < job_.values.dim; d += kVectorLanes) {
        (Lanes::Load(context + d) * shrink).Store(context + d);
      }
    }
  }

  // Values are packed and met: all panels, or when they need not be kept, some at a time, which then lie
  // in the first level of the cache.
  void GatherAll() {
    const int num_panels = RoundUpTo<Lanes>(kVectorLanes, job_.values.dim) / kVectorLanes;
    const int panels_at_once = job_.keeps_packed ? num_panels : 4;
    for (int begin = 0; begin < num_panels; begin += panels_at_once) {
      const int left = num_panels - begin;
      const int end = left < panels_at_once ? num_panels : begin + panels_at_once;
      PackJob some = job_.values;
      some.offset += begin * kVectorLanes;
      some.dim -= begin * kVectorLanes;
      if (end < num_panels) some.dim = (end - begin) * kVectorLanes;
      PackTileValues<Lanes>(some);
      Gather(begin, end);
    }
  }

  // The panels [begin, end), which are packed.
  void Gather(int begin, int end) {
    ForEachPair(begin, end, [&]<int kPanels>(int panel, int g) {
      const auto* const values = reinterpret_cast<const uint16_t*>(job_.values.to) +
                                 (panel - begin) * kBlockTokens * kVectorLanes;
      GatherTiles<kPanels>(values, panel, g);
    });
  }

  // A group with panels.
  template <int kPanels>
  void GatherTiles(const uint16_t* values, int panel, int g) {
    constexpr int64_t kNextPanel = kBlockTokens * kVectorLanes;
    constexpr int64_t kWeightsBytes = kBlockTokens * sizeof(float);
    const Group group = GroupAt<Lanes>(job_, g);
    const auto* const weights = reinterpret_cast<const uint16_t*>(group.weights);
    float* const context = ContextOf(group.first) + panel * kVectorLanes;
    const int64_t context_bytes = job_.context_stride * sizeof(float);
    prefetch_.FetchStep();
    tiles_.template Load<0>(context, context_bytes);
    if constexpr (kPanels == 2) tiles_.template Load<1>(context + kVectorLanes, context_bytes);
    for (int t = 0; t < job_.keys.num_rows; t += kSumBlock) {
      const uint16_t* const block = values + t * kVectorLanes;
      tiles_.template Load<4>(weights + t, kWeightsBytes);
      tiles_.template Load<6>(block, kLine);
      tiles_.template Multiply<0, 4, 6>();
      if constexpr (kPanels == 2) {
        tiles_.template Load<6>(block + kNextPanel, kLine);
        tiles_.template Multiply<1, 4, 6>();
      }
    }
    StoreContext<0>(group, context);
    if constexpr (kPanels == 2) StoreContext<1>(group, context + kVectorLanes);
  }

  // Of the queries that see the block.
  template <int kTile>
  void StoreContext(const Group& group, float* context) {
    if (group.begin == 0 && group.end == Group::kQueries) {
      tiles_.template Store<kTile>(context, job_.context_stride * sizeof(float));
      return;
    }
    alignas(64) float all[TileMemory::kTileValues];
    tiles_.template Store<kTile>(all, kLine);
    for (int q = group.begin; q < group.end; ++q) {
      Lanes::Load(all + q * kVectorLanes).Store(context + q * job_.context_stride);
    }
  }

  const AttendBlockJob& job_;
  const int num_groups_;
  PlacesPrefetch<Lanes> prefetch_;
  Tiles tiles_;
};

template <typename Lanes, typename Tiles>
void AttendTileBlock(const AttendBlockJob& job) {
  if (!job.keys.is_bf16) return AttendBlock<Lanes>(job);
  TileAttention<Lanes, Tiles>(job).Run();
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_TILE_ATTENTION_INL_H_
