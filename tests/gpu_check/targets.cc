#include "tests/gpu_check/targets.h"

#include <optional>

#include "absl/strings/str_format.h"

namespace orrery {
namespace {

constexpr int kManyRows = 256;  // per expert
constexpr int kFewRows = 16;
constexpr int kDecodeBatch = 64;

std::optional<double> AimOf(const KernelCase& what) {
  const bool has_fp8_products = what.format == "w8a8";
  if (what.operation == "feed_forward" && (has_fp8_products || what.format == "fp8")) {
    // With many rows only codes times codes come near a ceiling of such products.
    if (what.num_rows >= kManyRows && has_fp8_products) return 0.60;
    if (what.num_rows <= kFewRows) return 0.85;
  }
  if (what.operation == "attend_decode_4096" && what.num_rows == kDecodeBatch) return 0.75;
  for (const char* operation : {"rms_norm", "gate", "encode_rows", "decode_rows", "weighted_sum"}) {
    if (what.operation == operation) return 0.80;
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> TargetLines(const std::vector<KernelFigures>& figures) {
  std::vector<std::string> lines;
  for (const KernelFigures& row : figures) {
    const std::optional<double> aim = AimOf(row.what);
    if (!aim.has_value()) continue;
    lines.push_back(absl::StrFormat("%s: %.1f us, %.1f%% of %s, aim %.0f%%: %s", row.what.name(),
                                    1e6 * row.seconds.median, 100.0 * row.share.median,
                                    std::string(BoundName(row.bound)), 100.0 * *aim,
                                    row.share.median >= *aim ? "held" : "missed"));
  }
  return lines;
}

}  // namespace orrery
