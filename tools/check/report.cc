#include "tools/check/report.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace orrery {

ErrorStats CompareValues(absl::Span<const float> actual, absl::Span<const float> expected) {
  ErrorStats stats;
  double sum = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    double error = std::abs(static_cast<double>(actual[i]) - expected[i]);
    if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
    stats.max = std::max(stats.max, error);
    sum += error * error;
  }
  stats.rms = actual.empty() ? 0.0 : std::sqrt(sum / static_cast<double>(actual.size()));
  return stats;
}

void Report::Title(std::string_view text) {
  std::fprintf(out_, "%.*s\n", static_cast<int>(text.size()), text.data());
}

void Report::Line(bool passed, std::string_view what, std::string_view detail) {
  ++(passed ? num_passed_ : num_failed_);
  std::fprintf(out_, "  %s  %-24.*s %.*s\n", passed ? "ok  " : "FAIL",
               static_cast<int>(what.size()), what.data(), static_cast<int>(detail.size()),
               detail.data());
}

void Report::Skipped(std::string_view what, std::string_view why) {
  ++num_skipped_;
  std::fprintf(out_, "  SKIPPED  %.*s: %.*s\n", static_cast<int>(what.size()), what.data(),
               static_cast<int>(why.size()), why.data());
}

void Report::Compare(std::string_view what, absl::Span<const float> actual,
                     absl::Span<const float> expected, const Tolerance& tolerance) {
  if (actual.size() != expected.size()) {
    Line(false, what, absl::StrCat(actual.size(), " values, expected ", expected.size()));
    return;
  }
  const ErrorStats stats = CompareValues(actual, expected);
  bool passed = true;
  std::string detail = absl::StrFormat("max %8.1e", stats.max);
  if (tolerance.max > 0) {
    passed = passed && stats.max <= tolerance.max;
    absl::StrAppendFormat(&detail, " (limit %.0e)", tolerance.max);
  }
  absl::StrAppendFormat(&detail, "  rms %8.1e", stats.rms);
  if (tolerance.rms > 0) {
    passed = passed && stats.rms <= tolerance.rms;
    absl::StrAppendFormat(&detail, " (limit %.0e)", tolerance.rms);
  }
  Line(passed, what, detail);
}

void Report::CompareExact(std::string_view what, absl::Span<const int32_t> actual,
                          absl::Span<const int32_t> expected) {
  if (actual.size() != expected.size()) {
    Line(false, what, absl::StrCat(actual.size(), " values, expected ", expected.size()));
    return;
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    if (actual[i] == expected[i]) continue;
    Line(false, what, absl::StrCat("differs at ", i, ": ", actual[i], ", expected ", expected[i]));
    return;
  }
  Line(true, what, absl::StrCat("exact, ", actual.size(), " values"));
}

}  // namespace orrery
