// Weights on their way from the packed layout to tile registers.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_TILE_TURNER_INL_H_
#define ORRERY_KERNELS_CPU_TILE_TURNER_INL_H_

#include <stdint.h>

#include "kernels/cpu/matmul-inl.h"
#include "kernels/cpu/tile_chunks-inl.h"
#include "kernels/cpu/tile_form-inl.h"

namespace orrery {

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
      const int panel = stream / streams_per_panel;
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

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_TILE_TURNER_INL_H_
