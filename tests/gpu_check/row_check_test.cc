// Whether the check of rows finds what it is there to find, on the stand-in for a GPU.
#include "tests/gpu_check/row_check.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "device/cuda/cuda_stream.h"

namespace orrery {
namespace {

constexpr int kNumRows = 5;
constexpr size_t kRowBytes = 4;

class RowCheckTest : public testing::Test {
 protected:
  // Copies rows; of some calls, those that lie one row further.
  testing::AssertionResult Check(const std::function<bool(int begin, int num)>& is_wrong) {
    const RowOperation copy = {
        .num_rows = kNumRows, .row_bytes = kRowBytes, .run = [&](int begin, int num, Buffer& out) {
          const int from = begin + (is_wrong(begin, num) ? 1 : 0);
          gpu_.stream->CopyOnDevice(out.data(), rows_.as<std::byte>() + from * kRowBytes,
                                    num * kRowBytes);
        }};
    return SameBitsForEveryNumberOfRows(gpu_, copy);
  }
  bool is_capturing() const {
    return static_cast<const CudaStream&>(*gpu_.stream).capturing() != nullptr;
  }
  static Buffer MakeRows(const Gpu& gpu) {
    std::vector<uint8_t> bytes((kNumRows + 1) * kRowBytes);
    std::iota(bytes.begin(), bytes.end(), uint8_t{0});
    return *gpu.Upload(bytes);
  }

  const Gpu gpu_ = *Gpu::Open();
  const Buffer rows_ = MakeRows(gpu_);
};

TEST_F(RowCheckTest, HoldsForRowsThatKnowNothingOfEachOther) {
  EXPECT_TRUE(Check([](int, int) { return false; }));
}

TEST_F(RowCheckTest, FindsANumberOfRowsThatChangesThem) {
  const testing::AssertionResult same = Check([](int begin, int num) { return num == 3; });
  EXPECT_FALSE(same);
  EXPECT_EQ(std::string(same.message()),
            "row 0 differs when rows 0 to 2 come together from when it is one of 5");
}

TEST_F(RowCheckTest, FindsARowThatDiffersAlone) {
  const testing::AssertionResult same =
      Check([](int begin, int num) { return begin == 4 && num == 1; });
  EXPECT_FALSE(same);
  EXPECT_EQ(std::string(same.message()),
            "row 4 differs when rows 4 to 4 come together from when it is one of 5");
}

TEST_F(RowCheckTest, FindsWhatDiffersWhenItIsReplayed) {
  const testing::AssertionResult same =
      Check([this](int begin, int num) { return num == 2 && is_capturing(); });
  EXPECT_FALSE(same);
  EXPECT_EQ(std::string(same.message()),
            "row 0 differs when rows 0 to 1 come together, captured and replayed, from when it is "
            "one of 5");
}

}  // namespace
}  // namespace orrery
