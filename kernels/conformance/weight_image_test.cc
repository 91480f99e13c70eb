// A weight and what is mapped from its image are the same weight; bytes that are no image are
// refused, whatever they are (run under --config=asan this shows that nothing is read outside).
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/aligned_memory.h"
#include "gtest/gtest.h"
#include "kernels/conformance/kernels_testing.h"

namespace orrery {
namespace {

// Bytes as a store would hold them: elsewhere, on their border, exactly as long.
WeightImage Elsewhere(absl::Span<const std::byte> bytes) {
  std::shared_ptr<std::byte[]> copy(TryAllocateAligned<std::byte>(bytes.size()));
  if (!bytes.empty()) std::memcpy(copy.get(), bytes.data(), bytes.size());
  return {.bytes = {copy.get(), bytes.size()}, .owner = copy};
}

struct Case {
  DType dtype;
  ProductFormat format;
  WeightFormat held;
  int num_outputs;
  int num_inputs;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kFp8E4m3}) {
    for (const ProductFormat format : {ProductFormat::kBf16, ProductFormat::kF32}) {
      for (const WeightFormat held :
           {WeightFormat::kStored, WeightFormat::kInt8, WeightFormat::kInt4}) {
        for (const auto& [outputs, inputs] :
             {std::pair(1, 1), std::pair(17, 33), std::pair(70, 300)}) {
          cases.push_back({dtype, format, held, outputs, inputs});
        }
      }
    }
  }
  return cases;
}

class WeightImages : public KernelsConformance {
 protected:
  std::unique_ptr<Weight> Make(const Case& c) {
    const TestWeight source(c.dtype, {c.num_outputs, c.num_inputs, 32, 64}, 3);
    auto weight = kernels_->MakeWeight(source.source(), c.format, c.held);
    EXPECT_TRUE(weight.ok()) << weight.status();
    WeightSource shape = source.source();
    shape.data = nullptr;
    EXPECT_EQ(*kernels_->WeightBytes(shape, c.format, c.held), (*weight)->Image()->bytes.size());
    return *std::move(weight);
  }
  std::vector<float> Multiply(const Weight& weight) {
    TestMatrix x(3, weight.num_inputs(), RandomValues(5).Make(3 * weight.num_inputs()));
    std::vector<float> out(3 * weight.num_outputs());
    kernels_->Matmul(x.view(), weight, nullptr, Matrix(out.data(), 3, weight.num_outputs()));
    return out;
  }
};

TEST_P(WeightImages, MultiplyAsTheWeightsTheyWereTakenFrom) {
  for (const Case& c : Cases()) {
    std::unique_ptr<Weight> made = Make(c);
    const auto mapped = kernels_->MapWeight(Elsewhere(made->Image()->bytes));
    ASSERT_TRUE(mapped.ok()) << mapped.status();
    EXPECT_EQ((*mapped)->num_outputs(), c.num_outputs);
    EXPECT_EQ((*mapped)->num_inputs(), c.num_inputs);
    EXPECT_EQ((*mapped)->num_bytes(), made->num_bytes());
    const std::vector<float> want = Multiply(*made);
    made.reset();
    EXPECT_EQ(Multiply(**mapped), want);
  }
}

TEST_P(WeightImages, AreRefusedWhenTheyAreNone) {
  const std::unique_ptr<Weight> weight = Make(Cases()[1]);
  const WeightImage taken = *weight->Image();
  const absl::Span<const std::byte> image = taken.bytes;
  const auto refuses = [&](const WeightImage& bad) {
    const absl::Status status = kernels_->MapWeight(bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  };
  for (const size_t num_bytes : {size_t{0}, size_t{1}, size_t{64}, image.size() - 1}) {
    refuses(Elsewhere(image.subspan(0, num_bytes)));
  }
  std::vector<std::byte> longer(image.begin(), image.end());
  longer.resize(image.size() + 64);
  refuses(Elsewhere(longer));
  WeightImage off_border = Elsewhere(longer);
  std::memcpy(const_cast<std::byte*>(off_border.bytes.data()) + 1, image.data(), image.size());
  off_border.bytes = off_border.bytes.subspan(1, image.size());
  refuses(off_border);
  WeightImage version = Elsewhere(image);
  const_cast<std::byte*>(version.bytes.data())[0] = std::byte{'z'};
  refuses(version);
}

TEST_P(WeightImages, AreReadOrRefusedWhenTheirHeadersAreDamaged) {
  std::mt19937 random(42);
  int num_refused = 0, num_rounds = 0;
  for (const Case& c : Cases()) {
    const std::unique_ptr<Weight> weight = Make(c);
    for (int round = 0; round < 60; ++round) {
      const WeightImage damaged = Elsewhere(weight->Image()->bytes);
      auto* const bytes = const_cast<std::byte*>(damaged.bytes.data());
      const int num_changes = 1 + random() % 3;
      for (int i = 0; i < num_changes; ++i) {
        // Half of them put a number where one stands.
        if (random() % 2 == 0) {
          bytes[16 + random() % 48] = static_cast<std::byte>(random());
        } else {
          const int32_t values[] = {0, 1, -1, 16, 32, 64, 1 << 28, 1 << 30, INT32_MAX, INT32_MIN};
          const int32_t value = values[random() % std::size(values)];
          std::memcpy(bytes + 16 + random() % 12 * 4, &value, 4);
        }
      }
      const auto mapped = kernels_->MapWeight(damaged);
      ++num_rounds;
      num_refused += !mapped.ok();
      if (mapped.ok()) Multiply(**mapped);
    }
  }
  EXPECT_GT(num_refused, num_rounds / 2) << "the damage should mostly show";
}

ORRERY_INSTANTIATE_FOR_ALL_KERNELS(WeightImages);

}  // namespace
}  // namespace orrery
