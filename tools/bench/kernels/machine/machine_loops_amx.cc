// Tiles are no registers of a Unit: a `multiply` of its own, and the `read` of AVX-512.

#include "tools/bench/kernels/machine/avx512_unit.h"
#include "tools/bench/kernels/machine/machine_loops-inl.h"

namespace orrery {
namespace {

struct Unit : Avx512Unit {};

// As LDTILECFG reads it: eight tiles of 16 rows of 64 bytes. In static storage, because GCC 12 drops
// stores to a local one.
struct alignas(64) Configuration {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t num_rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr Configuration kConfiguration;

struct alignas(64) TileBytes {
  uint16_t bf16[16 * 32];
};
constexpr TileBytes MakeSmall() {
  TileBytes small = {};
  for (uint16_t& value : small.bf16) value = 0x3a80;  // 2^-10
  return small;
}
constexpr TileBytes kSmall = MakeSmall();

constexpr int kSums = 4;
constexpr int kSumValues = 16 * 16;

float MultiplyTiles(int64_t num_rounds) {
  alignas(64) float sums[kSums][kSumValues];
  const int64_t stride = 64;
  asm volatile("ldtilecfg %0" : : "m"(kConfiguration) : "memory");
  asm volatile("tilezero %%tmm0\n tilezero %%tmm1\n tilezero %%tmm2\n tilezero %%tmm3" : :);
  asm volatile("tileloadd (%0,%1,1), %%tmm4\n tileloadd (%0,%1,1), %%tmm5"
               :
               : "r"(&kSmall), "r"(stride)
               : "memory");
  for (int64_t round = 0; round < num_rounds; ++round) {
    asm volatile(
        "tdpbf16ps %%tmm5, %%tmm4, %%tmm0\n tdpbf16ps %%tmm5, %%tmm4, %%tmm1\n"
        "tdpbf16ps %%tmm5, %%tmm4, %%tmm2\n tdpbf16ps %%tmm5, %%tmm4, %%tmm3"
        :
        :);
  }
  asm volatile(
      "tilestored %%tmm0, (%0,%4,1)\n tilestored %%tmm1, (%1,%4,1)\n"
      "tilestored %%tmm2, (%2,%4,1)\n tilestored %%tmm3, (%3,%4,1)\n tilerelease"
      :
      : "r"(sums[0]), "r"(sums[1]), "r"(sums[2]), "r"(sums[3]), "r"(stride)
      : "memory");
  float total = 0.0f;
  for (const auto& sum : sums) {
    for (const float value : sum) total += value;
  }
  return total;
}

}  // namespace

const MachineLoops& AmxMachineLoops() {
  static constexpr MachineLoops kLoops = {.instruction = "TDPBF16PS",
                                          .flops_per_round = 2.0 * kSums * kSumValues * 32,
                                          .multiply = MultiplyTiles,
                                          .read = ReadAll<Unit>};
  return kLoops;
}

}  // namespace orrery
