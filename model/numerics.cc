#include "model/numerics.h"

#include "absl/strings/str_cat.h"

namespace orrery {

std::string_view PrecisionName(Precision precision) {
  return precision == Precision::kF32 ? "f32" : "bf16";
}

std::string_view RowFormatName(RowFormat format) {
  switch (format) {
    case RowFormat::kF32:
      return "f32";
    case RowFormat::kBf16:
      return "bf16";
    case RowFormat::kFp8:
      return "fp8";
  }
  return "?";
}

std::string_view WeightFormatName(WeightFormat format) {
  switch (format) {
    case WeightFormat::kStored:
      return "stored";
    case WeightFormat::kInt8:
      return "int8";
    case WeightFormat::kInt4:
      return "int4";
  }
  return "?";
}

std::string_view FfnProductsName(FfnProducts products) {
  return products == FfnProducts::kFp8 ? "fp8" : "precision";
}

absl::StatusOr<Precision> ParsePrecision(std::string_view text) {
  if (text == "bf16") return Precision::kBf16;
  if (text == "f32") return Precision::kF32;
  return absl::InvalidArgumentError(
      absl::StrCat("precision '", std::string(text), "' is not known; use bf16 or f32"));
}

absl::StatusOr<RowFormat> ParseRowFormat(std::string_view text) {
  if (text == "bf16") return RowFormat::kBf16;
  if (text == "f32") return RowFormat::kF32;
  if (text == "fp8") return RowFormat::kFp8;
  return absl::InvalidArgumentError(
      absl::StrCat("row format '", std::string(text), "' is not known; use bf16, f32 or fp8"));
}

absl::StatusOr<WeightFormat> ParseWeightFormat(std::string_view text) {
  if (text == "stored") return WeightFormat::kStored;
  if (text == "int8") return WeightFormat::kInt8;
  if (text == "int4") return WeightFormat::kInt4;
  return absl::InvalidArgumentError(absl::StrCat("weight format '", std::string(text),
                                                 "' is not known; use stored, int8 or int4"));
}

absl::StatusOr<FfnProducts> ParseFfnProducts(std::string_view text) {
  if (text == "precision") return FfnProducts::kPrecision;
  if (text == "fp8") return FfnProducts::kFp8;
  return absl::InvalidArgumentError(absl::StrCat("products of feed-forwards '", std::string(text),
                                                 "' are not known; use precision or fp8"));
}

std::string NumericsId(const Numerics& numerics, std::string_view kernel_family) {
  const std::string act(PrecisionName(numerics.precision));
  // cell=1: a reduction cell is one expert; experts are summed at the attention rank, by ascending
  // id.
  const std::string linear =
      numerics.linear_weights == WeightFormat::kStored
          ? std::string()
          : absl::StrCat(" linear=", std::string(WeightFormatName(numerics.linear_weights)));
  return absl::StrCat(
      std::string(kernel_family), " ffn=", std::string(WeightFormatName(numerics.ffn_weights)),
      numerics.ffn_products == FfnProducts::kFp8 ? "/fp8" : "", linear, " act=", act, " kv=", act,
      " rows=", std::string(RowFormatName(numerics.row_format)), "/",
      std::string(RowFormatName(numerics.result_format())), " cell=1");
}

}  // namespace orrery
