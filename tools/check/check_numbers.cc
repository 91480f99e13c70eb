#include "tools/check/check_numbers.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/dtypes.h"
#include "checkpoint/model_config.h"
#include "checkpoint/published_models.h"

namespace orrery {
namespace {

constexpr double kRopeTolerance = 1e-12;  // relative; f64 against f64
constexpr int kFp8Block = 128;

void CheckDecode(const nlohmann::json& table, Report& report) {
  int num_wrong = 0;
  for (size_t code = 0; code < table.size(); ++code) {
    const float value = Fp8E4m3ToF32(static_cast<uint8_t>(code));
    num_wrong += table[code].is_null() ? !std::isnan(value) : value != table[code].get<float>();
  }
  report.Line(num_wrong == 0, "fp8 decode",
              absl::StrCat(num_wrong, " of ", table.size(), " codes differ"));
}

void CheckEncode(const nlohmann::json& vectors, Report& report) {
  int num_wrong = 0;
  for (const nlohmann::json& vector : vectors) {
    num_wrong += F32ToFp8E4m3(vector.at("x").get<float>()) != vector.at("code").get<int>();
  }
  report.Line(num_wrong == 0, "fp8 encode",
              absl::StrCat(num_wrong, " of ", vectors.size(), " values differ"));
}

// Activations of one row in blocks of 128, with power-of-two scales (the ue8m0 format of V3.1).
void QuantizeUe8m0(const std::vector<float>& x, std::vector<float>& scales,
                   std::vector<int>& codes) {
  for (size_t begin = 0; begin < x.size(); begin += kFp8Block) {
    const size_t end = std::min(x.size(), begin + kFp8Block);
    float amax = 1e-4f;
    for (size_t i = begin; i < end; ++i) amax = std::max(amax, std::abs(x[i]));
    int exponent = 0;
    const float mantissa = std::frexp(amax / 448.0f, &exponent);  // [0.5, 1)
    const float scale = std::ldexp(1.0f, mantissa == 0.5f ? exponent - 1 : exponent);
    scales.push_back(scale);
    for (size_t i = begin; i < end; ++i) codes.push_back(F32ToFp8E4m3(x[i] / scale));
  }
}

// A row of x, encoded.
absl::StatusOr<std::vector<std::byte>> Encode(const std::vector<float>& x,
                                              const RowEncoder& encoder) {
  const int width = static_cast<int>(x.size());
  const size_t x_bytes = x.size() * sizeof(float);
  std::vector<std::byte> encoded(EncodedRowBytes(RowFormat::kFp8, width));
  ASSIGN_OR_RETURN(const Buffer row, encoder.device->Allocate(x_bytes, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(const Buffer out, encoder.device->Allocate(encoded.size(), MemoryKind::kDevice));
  encoder.stream->CopyToDevice(row.data(), x.data(), x_bytes);
  encoder.kernels->EncodeRows(ConstMatrix(row.as<float>(), 1, width), RowFormat::kFp8,
                              out.as<std::byte>());
  encoder.stream->CopyToHost(encoded.data(), out.data(), encoded.size());
  RETURN_IF_ERROR(encoder.stream->Synchronize());
  return encoded;
}

absl::Status CheckActQuant(const nlohmann::json& quant, const RowEncoder& encoder, Report& report) {
  int num_values = 0, num_wrong = 0, num_wrong_ue8m0 = 0;
  for (size_t row = 0; row < quant.at("x").size(); ++row) {
    const std::vector<float> x = quant["x"][row].get<std::vector<float>>();
    const std::vector<int> codes = quant.at("codes")[row].get<std::vector<int>>();
    const std::vector<float> scales = quant.at("scale")[row].get<std::vector<float>>();
    const int width = static_cast<int>(x.size());
    ASSIGN_OR_RETURN(const std::vector<std::byte> encoded, Encode(x, encoder));
    num_values += width;
    for (int i = 0; i < width; ++i) num_wrong += static_cast<int>(encoded[i]) != codes[i];
    const size_t scales_begin = encoded.size() - scales.size() * sizeof(float);
    num_wrong += std::memcmp(encoded.data() + scales_begin, scales.data(),
                             scales.size() * sizeof(float)) != 0;

    if (!quant.contains("codes_ue8m0")) continue;
    std::vector<float> scales_ue8m0;
    std::vector<int> codes_ue8m0;
    QuantizeUe8m0(x, scales_ue8m0, codes_ue8m0);
    num_wrong_ue8m0 += codes_ue8m0 != quant["codes_ue8m0"][row].get<std::vector<int>>();
    num_wrong_ue8m0 += scales_ue8m0 != quant.at("scale_ue8m0")[row].get<std::vector<float>>();
  }
  report.Line(num_wrong == 0, "fp8 rows",
              absl::StrCat(num_wrong, " of ", num_values, " codes and scales differ"));
  report.Line(num_wrong_ue8m0 == 0, "fp8 rows, ue8m0",
              absl::StrCat(num_wrong_ue8m0, " rows differ"));
  return absl::OkStatus();
}

double RelativeError(double actual, double expected) {
  return std::abs(actual - expected) / std::max(std::abs(expected), 1e-300);
}

void CheckRope(const std::string& name, const nlohmann::json& golden, const ModelConfig& config,
               Report& report) {
  const std::vector<double> frequencies = InverseFrequencies(config.rope);
  const std::vector<double> expected = golden.at("inv_freq").get<std::vector<double>>();
  if (frequencies.size() != expected.size()) {
    report.Line(false, name,
                absl::StrCat(frequencies.size(), " frequencies, expected ", expected.size()));
    return;
  }
  double error = RelativeError(config.softmax_scale, golden.at("softmax_scale").get<double>());
  for (size_t i = 0; i < expected.size(); ++i)
    error = std::max(error, RelativeError(frequencies[i], expected[i]));
  const nlohmann::json no_angles = nlohmann::json::object();
  const nlohmann::json& positions = golden.contains("angles") ? golden["angles"] : no_angles;
  for (const auto& [position, angles] : positions.items()) {
    for (size_t i = 0; i < angles.size(); ++i) {
      error = std::max(error, RelativeError(std::atof(position.c_str()) * frequencies[i],
                                            angles[i].get<double>()));
    }
  }
  const bool same_layout =
      !golden.contains("layout") || (golden["layout"] == "interleaved") == config.rope.interleaved;
  report.Line(error <= kRopeTolerance && same_layout, name,
              absl::StrFormat("relative error %.1e (limit %.0e)%s", error, kRopeTolerance,
                              same_layout ? "" : ", and the pairs lie differently"));
}

}  // namespace

absl::Status CheckFp8(const GoldenFile& golden, const RowEncoder& encoder, Report& report) {
  report.Title(golden.dir());
  try {
    CheckDecode(golden.json().at("decode_table"), report);
    CheckEncode(golden.json().at("encode"), report);
    RETURN_IF_ERROR(CheckActQuant(golden.json().at("act_quant"), encoder, report));
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(golden.dir(), "/golden.json: ", e.what()));
  }
  return absl::OkStatus();
}

absl::Status CheckRopeTables(const GoldenFile& golden, Report& report) {
  report.Title(golden.dir());
  try {
    for (const auto& [name, model] : golden.json().at("models").items()) {
      ASSIGN_OR_RETURN(const ModelConfig config, PublishedModelConfig(name));
      CheckRope(name, model, config, report);
    }
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(golden.dir(), "/golden.json: ", e.what()));
  }
  return absl::OkStatus();
}

}  // namespace orrery
