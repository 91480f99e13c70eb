#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/aligned_memory.h"
#include "base/check.h"
#include "kernels/load_value.h"
#include "kernels/quantize.h"
#include "kernels/reference/reference_kernels.h"
#include "kernels/shape_checks.h"
#include "kernels/weight_image.h"

namespace orrery {
namespace {

constexpr char kImageLayout[] = "reference 1";

// The image is a header and the values, dequantised: f32 [num_outputs, num_inputs].
class ReferenceWeight : public Weight {
 public:
  static std::unique_ptr<ReferenceWeight> Make(int num_outputs, int num_inputs,
                                               ProductFormat format) {
    WeightImageHeader header = MakeImageHeader(kImageLayout, num_outputs, num_inputs);
    header.product_format = static_cast<int32_t>(format);
    const size_t num_bytes = ImageBytes(num_outputs, num_inputs);
    AlignedArray<std::byte> memory = TryAllocateAligned<std::byte>(num_bytes);
    if (memory == nullptr) return nullptr;
    std::memcpy(memory.get(), &header, sizeof(header));
    const absl::Span<const std::byte> bytes(memory.get(), num_bytes);
    return std::make_unique<ReferenceWeight>(
        header, WeightImage{bytes, std::shared_ptr<std::byte[]>(std::move(memory))});
  }
  ReferenceWeight(const WeightImageHeader& header, WeightImage image)
      : Weight(header.num_outputs, header.num_inputs),
        format_(static_cast<ProductFormat>(header.product_format)),
        image_(std::move(image)) {}

  static size_t ImageBytes(int num_outputs, int num_inputs) {
    return sizeof(WeightImageHeader) +
           sizeof(float) * static_cast<size_t>(num_outputs) * num_inputs;
  }
  size_t num_bytes() const override { return image_.bytes.size() - sizeof(WeightImageHeader); }
  absl::StatusOr<WeightImage> Image() const override { return image_; }
  ProductFormat format() const { return format_; }
  const float* row(int output) const {
    return reinterpret_cast<const float*>(image_.bytes.data() + sizeof(WeightImageHeader)) +
           static_cast<size_t>(output) * num_inputs();
  }
  // Only while it is made.
  float* row(int output) {
    return const_cast<float*>(static_cast<const ReferenceWeight*>(this)->row(output));
  }

 private:
  ProductFormat format_;
  WeightImage image_;
};

const ReferenceWeight& Own(const Weight& weight) {
  const auto* own = dynamic_cast<const ReferenceWeight*>(&weight);
  ORRERY_CHECK(own != nullptr) << "a weight of another implementation";
  return *own;
}

// What the product sees of a value.
float Enter(float value, ProductFormat format) {
  return format == ProductFormat::kBf16 ? RoundToBf16(value) : value;
}

double Silu(double z) { return z / (1.0 + std::exp(-z)); }

}  // namespace

absl::StatusOr<std::unique_ptr<Weight>> ReferenceKernels::MakeWeight(const WeightSource& source,
                                                                     ProductFormat format,
                                                                     WeightFormat held) {
  RETURN_IF_ERROR(CheckWeightSource(source, format, held));
  std::unique_ptr<ReferenceWeight> weight =
      ReferenceWeight::Make(source.num_outputs, source.num_inputs, format);
  if (weight == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a weight of shape [",
                                                     source.num_outputs, ", ", source.num_inputs,
                                                     "] in f32"));
  }
  if (const QuantFormat* const quant = QuantFormatOf(held); quant != nullptr) {
    QuantizedRow row;
    for (int o = 0; o < source.num_outputs; ++o) {
      RETURN_IF_ERROR(QuantizeOutput(source, o, *quant, row));
      for (int i = 0; i < source.num_inputs; ++i) {
        weight->row(o)[i] = row.codes[i] * Bf16ToF32(row.scales[i / quant->block_inputs]);
      }
    }
    return weight;
  }
  const bool is_fp8 = source.dtype == DType::kFp8E4m3;
  const int scales_per_row =
      is_fp8 ? (source.num_inputs + source.scale_block_inputs - 1) / source.scale_block_inputs : 0;
  for (int o = 0; o < source.num_outputs; ++o) {
    for (int i = 0; i < source.num_inputs; ++i) {
      float value =
          LoadValue(source.dtype, source.data, static_cast<int64_t>(o) * source.num_inputs + i);
      if (is_fp8) {
        // The code is what enters the product (exact in bf16); its scale applies afterwards.
        const int64_t scale_row = o / source.scale_block_outputs;
        value *= source.scales[scale_row * scales_per_row + i / source.scale_block_inputs];
      } else {
        value = Enter(value, format);
      }
      weight->row(o)[i] = value;
    }
  }
  return weight;
}

absl::StatusOr<std::unique_ptr<Weight>> ReferenceKernels::MapWeight(const WeightImage& image) {
  ASSIGN_OR_RETURN(const WeightImageHeader header, ReadImageHeader(image.bytes, kImageLayout));
  const size_t num_bytes = ReferenceWeight::ImageBytes(header.num_outputs, header.num_inputs);
  if (image.bytes.size() != num_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("an image of shape [", header.num_outputs, ", ",
                                                   header.num_inputs, "] has ", num_bytes,
                                                   " bytes, not ", image.bytes.size()));
  }
  return std::make_unique<ReferenceWeight>(header, image);
}

absl::StatusOr<size_t> ReferenceKernels::WeightBytes(const WeightSource& source, ProductFormat,
                                                     WeightFormat) const {
  return ReferenceWeight::ImageBytes(source.num_outputs, source.num_inputs);
}

void ReferenceKernels::Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) {
  CheckMatmul(x, weight, out);
  const ReferenceWeight& own = Own(weight);
  std::vector<float> entered(x.num_cols);
  std::vector<std::byte> encoded(EncodedRowBytes(RowFormat::kFp8, own.num_inputs()));
  for (int64_t r = 0; r < x.num_rows; ++r) {
    if (own.format() == ProductFormat::kFp8) {
      EncodeRows(x.Rows(r, 1), RowFormat::kFp8, encoded.data());
      DecodeRows(encoded.data(), RowFormat::kFp8, Matrix(entered.data(), 1, x.num_cols));
    } else {
      for (int64_t i = 0; i < x.num_cols; ++i) entered[i] = Enter(x.row(r)[i], own.format());
    }
    for (int o = 0; o < own.num_outputs(); ++o) {
      const float* weight_row = own.row(o);
      double sum = 0.0;
      for (int64_t i = 0; i < x.num_cols; ++i) {
        sum += static_cast<double>(entered[i]) * weight_row[i];
      }
      if (bias != nullptr) sum += bias[o];
      out.row(r)[o] = static_cast<float>(sum);
    }
  }
}

void ReferenceKernels::MatmulHeads(ConstMatrix x, int x_head_stride,
                                   absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                                   int out_head_stride) {
  CheckMatmulHeads(x, x_head_stride, weights, out, out_head_stride);
  for (size_t h = 0; h < weights.size(); ++h) {
    Matmul(x.Columns(h * x_head_stride, weights[h]->num_inputs()), *weights[h], nullptr,
           out.Columns(h * out_head_stride, weights[h]->num_outputs()));
  }
}

void ReferenceKernels::FeedForward(absl::Span<const FeedForwardArgs> all) {
  for (const auto& [x, gate, up, down, out] : all) {
    CheckFeedForward(x, *gate, *up, *down, out);
    const int64_t width = gate->num_outputs();
    std::vector<float> gated(x.num_rows * width);
    std::vector<float> raised(x.num_rows * width);
    Matmul(x, *gate, nullptr, Matrix(gated.data(), x.num_rows, width));
    Matmul(x, *up, nullptr, Matrix(raised.data(), x.num_rows, width));
    for (size_t i = 0; i < gated.size(); ++i) {
      gated[i] = static_cast<float>(Silu(gated[i]) * raised[i]);
    }
    Matmul(ConstMatrix(gated.data(), x.num_rows, width), *down, nullptr, out);
  }
}

}  // namespace orrery
