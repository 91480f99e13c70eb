// The loops of machine_loops.h over a Unit: an instruction set. Included by files with compiler options of their
// own, so everything is a template over a type that only its file has (see kernels/cpu/README.md for the rule).
//
//   struct Unit {
//     static constexpr int kNumChains;       // multiply-adds in flight; their results stay in registers
//     static constexpr int kFlopsPerStep;    // of one MultiplyAdd: products and additions
//     using Sum, Factor, Bits;
//     static Sum Zero();  static Factor Small();  static Sum MultiplyAdd(Sum, Factor, Factor);  static float Total(Sum);
//     static constexpr int kBitsBytes;
//     static Bits Load(const char*);  static Bits Join(Bits, Bits);  static uint32_t Fold(Bits);
//   };
#ifndef ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MACHINE_LOOPS_INL_H_
#define ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MACHINE_LOOPS_INL_H_

#include "tools/bench/kernels/machine/machine_loops.h"

namespace orrery {

template <typename Unit>
float MultiplyRounds(int64_t num_rounds) {
  typename Unit::Sum sums[Unit::kNumChains];
  for (auto& sum : sums) sum = Unit::Zero();
  const typename Unit::Factor factor = Unit::Small();
  for (int64_t round = 0; round < num_rounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < Unit::kNumChains; ++i) sums[i] = Unit::MultiplyAdd(sums[i], factor, factor);
  }
  float total = 0.0f;
  for (const auto& sum : sums) total += Unit::Total(sum);
  return total;
}

// Eight streams at once: one alone does not keep enough loads in flight on virtual machines.
template <typename Unit>
uint32_t ReadAll(const void* data, size_t num_bytes) {
  constexpr int kNumStreams = 8;
  constexpr size_t kAhead = 512;  // bytes, of each stream
  static_assert(kReadUnitBytes % (kNumStreams * Unit::kBitsBytes) == 0);
  const size_t stream_bytes = num_bytes / kNumStreams;
  const char* const from = static_cast<const char*>(data);
  typename Unit::Bits joined[kNumStreams];
  for (int s = 0; s < kNumStreams; ++s) joined[s] = Unit::Load(from);
  for (size_t at = 0; at < stream_bytes; at += Unit::kBitsBytes) {
#pragma GCC unroll 8
    for (int s = 0; s < kNumStreams; ++s) {
      const char* const stream = from + s * stream_bytes + at;
      __builtin_prefetch(stream + kAhead);
      joined[s] = Unit::Join(joined[s], Unit::Load(stream));
    }
  }
  for (int s = 1; s < kNumStreams; ++s) joined[0] = Unit::Join(joined[0], joined[s]);
  return Unit::Fold(joined[0]);
}

template <typename Unit>
constexpr MachineLoops MakeMachineLoops(const char* instruction) {
  return {.instruction = instruction,
          .flops_per_round = static_cast<double>(Unit::kNumChains) * Unit::kFlopsPerStep,
          .multiply = MultiplyRounds<Unit>,
          .read = ReadAll<Unit>};
}

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MACHINE_LOOPS_INL_H_
