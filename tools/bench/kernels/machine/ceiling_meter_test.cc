#include "tools/bench/kernels/machine/ceiling_meter.h"

#include <cmath>
#include <vector>

#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_variant.h"

namespace orrery {
namespace {

std::vector<std::string> Variants() {
  return absl::StrSplit(SupportedCpuVariants(), absl::ByString(", "));
}

TEST(CeilingMeter, MeasuresEveryVariantOfThisMachine) {
  for (const std::string& variant : Variants()) {
    const auto meter = CeilingMeter::Create(variant, 1 << 20);
    ASSERT_TRUE(meter.ok()) << meter.status();
    for (const int num_threads : {1, 2}) {
      for (const double figure : {(*meter)->ReadBytesPerSecond(num_threads),
                                  (*meter)->MultiplyFlopsPerSecond(num_threads)}) {
        EXPECT_TRUE(std::isfinite(figure) && figure > 0.0) << variant << ": " << figure;
      }
    }
  }
}

TEST(CeilingMeter, RefusesAVariantWithoutALoop) {
  EXPECT_EQ(CeilingMeter::Create("abacus", 1 << 20).status().code(),
            absl::StatusCode::kUnimplemented);
}

// What is not read cannot change the result.
TEST(MachineLoops, ReadEveryByte) {
  for (const std::string& variant : Variants()) {
    const MachineLoops& loops = **MachineLoopsFor(variant);
    std::vector<uint8_t> data(2 * kReadUnitBytes, 0);
    const uint32_t of_zeros = loops.read(data.data(), data.size());
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = 1;
      EXPECT_NE(loops.read(data.data(), data.size()), of_zeros) << variant << ", byte " << i;
      data[i] = 0;
    }
  }
}

// Every product is 2^-20, so sums are exact as long as they have 24 bits.
TEST(MachineLoops, MultiplyAsOftenAsTheySay) {
  for (const std::string& variant : Variants()) {
    const MachineLoops& loops = **MachineLoopsFor(variant);
    EXPECT_EQ(loops.multiply(1000), 1000 * loops.flops_per_round / 2 * 0x1p-20) << variant;
  }
}

}  // namespace
}  // namespace orrery
