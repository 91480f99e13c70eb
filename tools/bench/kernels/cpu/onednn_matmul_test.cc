#include "tools/bench/kernels/cpu/onednn_matmul.h"

#include "base/dtypes.h"
#include "gtest/gtest.h"
#include "tools/bench/kernels/synthetic.h"

namespace orrery {
namespace {

// A peer that multiplies something else would be no peer.
TEST(OneDnnMatmul, MultipliesRowsWithTheWeight) {
  const PeerProduct::Shape shape = {
      .num_rows = 3, .num_inputs = 70, .num_outputs = 37, .num_copies = 2};
  const std::vector<uint16_t> weight = Bf16Noise(37 * 70, /*seed=*/1);
  const std::vector<uint16_t> rows = Bf16Noise(3 * 70, /*seed=*/2);
  const auto matmul = OneDnnMatmul::Create(shape, /*num_threads=*/1, weight, rows);
  ASSERT_TRUE(matmul.ok()) << matmul.status();
  for (int copy = 0; copy < 2; ++copy) {
    ASSERT_TRUE((*matmul)->Run().ok());
    for (int r = 0; r < 3; ++r) {
      for (int o = 0; o < 37; ++o) {
        double sum = 0.0;
        for (int i = 0; i < 70; ++i) {
          sum += Bf16ToF32(rows[r * 70 + i]) * Bf16ToF32(weight[o * 70 + i]);
        }
        // 70 products below 1, each sum rounded to f32.
        EXPECT_NEAR((*matmul)->result()[r * 37 + o], sum, 70 * 70 * 0x1p-24) << r << ", " << o;
      }
    }
  }
}

TEST(OneDnnMatmul, SaysItsVersion) { EXPECT_EQ(OneDnnVersion().rfind("oneDNN ", 0), 0); }

}  // namespace
}  // namespace orrery
