// The numerics id: everything that the bits of an answer may depend on, in one line.
//
//   NumericsId({Precision::kBf16, RowFormat::kBf16}, "x86-1")
//       ->  "x86-1 ffn=stored act=bf16 kv=bf16 rows=bf16/bf16 cell=1"
//
// ffn=stored/fp8: products of fp8 activations; and "... ffn=int8 linear=int8 act=..." where those are not as
// stored.
//
// Members compare it when they join and on every dispatch; two ids never serve one answer together.
#ifndef ORRERY_MODEL_NUMERICS_H_
#define ORRERY_MODEL_NUMERICS_H_

#include <string>
#include <string_view>

#include "base/dtypes.h"
#include "kernels/kernels.h"

namespace orrery {

// Format of activations (as they enter products) and of the KV cache.
enum class Precision { kBf16, kF32 };

// What enters the products of the feed-forwards: activations as everywhere, or as fp8 codes.
enum class FfnProducts { kPrecision, kFp8 };

struct Numerics {
  Precision precision = Precision::kBf16;
  RowFormat row_format = RowFormat::kBf16;  // rows out
  // Weights of all feed-forwards: dense, shared and routed.
  WeightFormat ffn_weights = WeightFormat::kStored;
  FfnProducts ffn_products = FfnProducts::kPrecision;
  // Those of the other products: projections of attention, the head. Gate, embedding and the parts of
  // kv_b_proj stay as stored.
  WeightFormat linear_weights = WeightFormat::kStored;

  ProductFormat product_format() const {
    return precision == Precision::kF32 ? ProductFormat::kF32 : ProductFormat::kBf16;
  }
  ProductFormat ffn_product_format() const {
    return ffn_products == FfnProducts::kFp8 ? ProductFormat::kFp8 : product_format();
  }
  DType kv_format() const { return precision == Precision::kF32 ? DType::kF32 : DType::kBf16; }
  // Rows back: fp8 rows come back as bf16, since a sum of experts needs more than 3 bits of
  // mantissa.
  RowFormat result_format() const {
    return row_format == RowFormat::kFp8 ? RowFormat::kBf16 : row_format;
  }
};

// "bf16", "stored"; flags and messages.
std::string_view PrecisionName(Precision precision);
std::string_view RowFormatName(RowFormat format);
std::string_view WeightFormatName(WeightFormat format);
std::string_view FfnProductsName(FfnProducts products);
absl::StatusOr<Precision> ParsePrecision(std::string_view text);
absl::StatusOr<RowFormat> ParseRowFormat(std::string_view text);
absl::StatusOr<WeightFormat> ParseWeightFormat(std::string_view text);
absl::StatusOr<FfnProducts> ParseFfnProducts(std::string_view text);

std::string NumericsId(const Numerics& numerics, std::string_view kernel_family);

}  // namespace orrery

#endif  // ORRERY_MODEL_NUMERICS_H_
