#include "model/cluster_numerics.h"

namespace orrery {
namespace {

WeightFormat FromProto(internal::WeightFormat proto) {
  switch (proto) {
    case internal::WEIGHT_FORMAT_INT8:
      return WeightFormat::kInt8;
    case internal::WEIGHT_FORMAT_INT4:
      return WeightFormat::kInt4;
    default:
      return WeightFormat::kStored;
  }
}

}  // namespace

Numerics NumericsFromProto(const internal::Numerics& proto) {
  Numerics numerics;
  numerics.precision =
      proto.precision() == internal::PRECISION_F32 ? Precision::kF32 : Precision::kBf16;
  switch (proto.row_format()) {
    case internal::ROW_FORMAT_BF16:
      numerics.row_format = RowFormat::kBf16;
      break;
    case internal::ROW_FORMAT_F32:
      numerics.row_format = RowFormat::kF32;
      break;
    case internal::ROW_FORMAT_FP8:
      numerics.row_format = RowFormat::kFp8;
      break;
    default:  // as the precision
      numerics.row_format =
          numerics.precision == Precision::kF32 ? RowFormat::kF32 : RowFormat::kBf16;
  }
  numerics.ffn_weights = FromProto(proto.ffn_weights());
  numerics.linear_weights = FromProto(proto.linear_weights());
  if (proto.ffn_products() == internal::PRODUCT_FORMAT_FP8) {
    numerics.ffn_products = FfnProducts::kFp8;
  }
  return numerics;
}

Backend BackendFromProto(const internal::Numerics& proto) {
  switch (proto.backend()) {
    case internal::BACKEND_REFERENCE:
      return Backend::kReference;
    case internal::BACKEND_CUDA:
      return Backend::kCuda;
    default:
      return Backend::kCpu;
  }
}

}  // namespace orrery
