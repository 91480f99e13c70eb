#include "tools/bench/kernels/synthetic.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_memory.h"
#include "base/check.h"
#include "kernels/weight_image.h"

namespace orrery {
namespace {

constexpr int kScaleBlock = 128;
constexpr float kLargestFp8 = 448.0f;

// SplitMix64 (Steele, Lea, Flood 2014): some hundred million numbers are needed, their quality hardly matters.
class Generator {
 public:
  explicit Generator(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  float NextValue() { return static_cast<float>(static_cast<int64_t>(Next()) >> 40) * 0x1p-23f; }

 private:
  uint64_t state_;
};

int NumBlocks(int num) { return (num + kScaleBlock - 1) / kScaleBlock; }

}  // namespace

std::vector<float> Noise(size_t num, uint64_t seed) {
  Generator generator(seed);
  std::vector<float> values(num);
  for (float& value : values) value = generator.NextValue();
  return values;
}

std::vector<uint16_t> Bf16Noise(size_t num, uint64_t seed) {
  Generator generator(seed);
  std::vector<uint16_t> values(num);
  for (uint16_t& value : values) value = F32ToBf16(generator.NextValue());
  return values;
}

std::vector<uint8_t> Fp8Noise(size_t num, uint64_t seed) {
  Generator generator(seed);
  std::vector<uint8_t> codes(num);
  for (uint8_t& code : codes) code = F32ToFp8E4m3(generator.NextValue() * kLargestFp8);
  return codes;
}

std::string FormatName(DType dtype, WeightFormat held) {
  if (held == WeightFormat::kInt8) return "int8";
  if (held == WeightFormat::kInt4) return "int4";
  return dtype == DType::kFp8E4m3 ? "fp8" : std::string(DTypeName(dtype));
}

SyntheticWeight::SyntheticWeight(const Shape& shape, uint64_t seed) : shape_(shape) {
  const size_t num = static_cast<size_t>(shape.num_outputs) * shape.num_inputs;
  if (shape.dtype == DType::kBf16) {
    bf16_ = Bf16Noise(num, seed);
    return;
  }
  ORRERY_CHECK(shape.dtype == DType::kFp8E4m3) << DTypeName(shape.dtype);
  codes_ = Fp8Noise(num, seed);
  Generator generator(seed + 1);
  scales_.resize(static_cast<size_t>(NumBlocks(shape.num_outputs)) * NumBlocks(shape.num_inputs));
  for (float& scale : scales_) scale = (1.5f + generator.NextValue()) / kLargestFp8;
}

WeightSource SyntheticWeight::source() const {
  WeightSource source = {
      .dtype = shape_.dtype, .num_outputs = shape_.num_outputs, .num_inputs = shape_.num_inputs};
  if (shape_.dtype == DType::kBf16) {
    source.data = bf16_.data();
  } else {
    source.data = codes_.data();
    source.scales = scales_.data();
    source.scale_block_outputs = kScaleBlock;
    source.scale_block_inputs = kScaleBlock;
  }
  return source;
}

absl::Status LayTogether(Kernels& kernels, absl::Span<std::unique_ptr<Weight>* const> weights) {
  size_t num_bytes = 0;
  std::vector<WeightImage> images;
  for (const std::unique_ptr<Weight>* weight : weights) {
    ASSIGN_OR_RETURN(images.emplace_back(), (*weight)->Image());
    num_bytes += AlignedToImage(images.back().bytes.size());
  }
  AlignedArray<std::byte> memory = TryAllocateAligned<std::byte>(num_bytes, kImageAlignment);
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", num_bytes, " bytes of weights"));
  }
  const std::shared_ptr<std::byte[]> piece = std::move(memory);
  size_t begin = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const absl::Span<const std::byte> bytes = images[i].bytes;
    std::memcpy(piece.get() + begin, bytes.data(), bytes.size());
    ASSIGN_OR_RETURN(*weights[i], kernels.MapWeight({.bytes = {piece.get() + begin, bytes.size()},
                                                     .owner = piece}));
    begin += AlignedToImage(bytes.size());
  }
  return absl::OkStatus();
}

}  // namespace orrery
