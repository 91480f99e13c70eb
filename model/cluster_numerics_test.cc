#include "model/cluster_numerics.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

internal::Numerics Proto(internal::Precision precision, internal::RowFormat rows) {
  internal::Numerics proto;
  proto.set_precision(precision);
  proto.set_row_format(rows);
  return proto;
}

TEST(ClusterNumerics, AnEmptyBlockMeansBf16OnTheCpuBackend) {
  const Numerics numerics = NumericsFromProto({});
  EXPECT_EQ(numerics.precision, Precision::kBf16);
  EXPECT_EQ(numerics.row_format, RowFormat::kBf16);
  EXPECT_EQ(BackendFromProto({}), Backend::kCpu);
}

TEST(ClusterNumerics, RowsFollowThePrecisionUnlessTheySaySo) {
  const auto rows = [](internal::Precision precision, internal::RowFormat format) {
    return NumericsFromProto(Proto(precision, format)).row_format;
  };
  EXPECT_EQ(rows(internal::PRECISION_BF16, internal::ROW_FORMAT_UNSPECIFIED), RowFormat::kBf16);
  EXPECT_EQ(rows(internal::PRECISION_F32, internal::ROW_FORMAT_UNSPECIFIED), RowFormat::kF32);
  for (const auto precision :
       {internal::PRECISION_UNSPECIFIED, internal::PRECISION_BF16, internal::PRECISION_F32}) {
    EXPECT_EQ(rows(precision, internal::ROW_FORMAT_BF16), RowFormat::kBf16);
    EXPECT_EQ(rows(precision, internal::ROW_FORMAT_F32), RowFormat::kF32);
    EXPECT_EQ(rows(precision, internal::ROW_FORMAT_FP8), RowFormat::kFp8);
  }
}

TEST(ClusterNumerics, WeightsStayAsStoredUnlessTheFileSaysSo) {
  internal::Numerics proto;
  EXPECT_EQ(NumericsFromProto(proto).ffn_weights, WeightFormat::kStored);
  proto.set_ffn_weights(internal::WEIGHT_FORMAT_INT8);
  EXPECT_EQ(NumericsFromProto(proto).ffn_weights, WeightFormat::kInt8);
  proto.set_ffn_weights(internal::WEIGHT_FORMAT_INT4);
  EXPECT_EQ(NumericsFromProto(proto).ffn_weights, WeightFormat::kInt4);
  EXPECT_EQ(NumericsFromProto(proto).linear_weights, WeightFormat::kStored);
  proto.set_linear_weights(internal::WEIGHT_FORMAT_INT8);
  EXPECT_EQ(NumericsFromProto(proto).ffn_weights, WeightFormat::kInt4);
  EXPECT_EQ(NumericsFromProto(proto).linear_weights, WeightFormat::kInt8);
}

TEST(ClusterNumerics, ProductsOfFeedForwardsAreFp8OnlyIfTheFileSaysSo) {
  internal::Numerics proto;
  EXPECT_EQ(NumericsFromProto(proto).ffn_products, FfnProducts::kPrecision);
  proto.set_ffn_products(internal::PRODUCT_FORMAT_PRECISION);
  EXPECT_EQ(NumericsFromProto(proto).ffn_products, FfnProducts::kPrecision);
  proto.set_ffn_products(internal::PRODUCT_FORMAT_FP8);
  EXPECT_EQ(NumericsFromProto(proto).ffn_products, FfnProducts::kFp8);
}

TEST(ClusterNumerics, PrecisionAndBackendAreTakenAsWritten) {
  EXPECT_EQ(NumericsFromProto(Proto(internal::PRECISION_F32, internal::ROW_FORMAT_FP8)).precision,
            Precision::kF32);
  EXPECT_EQ(NumericsFromProto(Proto(internal::PRECISION_BF16, internal::ROW_FORMAT_F32)).precision,
            Precision::kBf16);
  internal::Numerics proto;
  proto.set_backend(internal::BACKEND_REFERENCE);
  EXPECT_EQ(BackendFromProto(proto), Backend::kReference);
  proto.set_backend(internal::BACKEND_CUDA);
  EXPECT_EQ(BackendFromProto(proto), Backend::kCuda);
  proto.set_backend(internal::BACKEND_CPU);
  EXPECT_EQ(BackendFromProto(proto), Backend::kCpu);
}

}  // namespace
}  // namespace orrery
