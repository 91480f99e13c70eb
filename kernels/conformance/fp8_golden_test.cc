// Rows as fp8 against the golden act_quant values: codes and scales of the official quantisation.

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <vector>

#include "kernels/conformance/kernels_testing.h"
#include "nlohmann/json.hpp"

namespace orrery {
namespace {

class Fp8Golden : public KernelsConformance {};
ORRERY_INSTANTIATE_FOR_ALL_KERNELS(Fp8Golden);

TEST_P(Fp8Golden, IsWhatEncodeRowsGives) {
  std::ifstream file("tests/data/golden/fp8_e4m3/golden.json");
  ASSERT_TRUE(file.good());
  const nlohmann::json golden = nlohmann::json::parse(file)["act_quant"];
  const auto rows = golden["x"].get<std::vector<std::vector<float>>>();
  const auto scales = golden["scale"].get<std::vector<std::vector<float>>>();
  const auto codes = golden["codes"].get<std::vector<std::vector<int>>>();
  ASSERT_FALSE(rows.empty());
  for (size_t r = 0; r < rows.size(); ++r) {
    const int width = static_cast<int>(rows[r].size());
    std::vector<std::byte> encoded(EncodedRowBytes(RowFormat::kFp8, width));
    kernels_->EncodeRows(ConstMatrix(rows[r].data(), 1, width), RowFormat::kFp8, encoded.data());
    for (int i = 0; i < width; ++i) {
      ASSERT_EQ(std::to_integer<int>(encoded[i]), codes[r][i]) << "row " << r << ", value " << i;
    }
    for (size_t group = 0; group < scales[r].size(); ++group) {
      float scale;
      std::memcpy(&scale, encoded.data() + (width + 3) / 4 * 4 + group * 4, 4);
      EXPECT_EQ(scale, scales[r][group]) << "row " << r << ", group " << group;
    }
  }
}

}  // namespace
}  // namespace orrery
