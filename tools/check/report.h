// The findings of a check: one line each, printed as they come, counted for the exit code.
//
//   v3_basic
//     ok    logits                max 1.4e-05 (1e-03)   rms 2.1e-06 (1e-04)
//     FAIL  greedy.ids            differs at 3: 17, expected 210
#ifndef ORRERY_TOOLS_CHECK_REPORT_H_
#define ORRERY_TOOLS_CHECK_REPORT_H_

#include <cstdio>
#include <string>
#include <string_view>

#include "absl/types/span.h"

namespace orrery {

// Largest error and root mean square error of two arrays of one size. A NaN on either side counts
// as infinite.
struct ErrorStats {
  double max = 0.0;
  double rms = 0.0;
};
ErrorStats CompareValues(absl::Span<const float> actual, absl::Span<const float> expected);

// What an array may differ by. A limit of 0 or less is not checked.
struct Tolerance {
  double max = 0.0;
  double rms = 0.0;
};

class Report {
 public:
  explicit Report(std::FILE* out) : out_(out) {}

  void Title(std::string_view text);
  void Line(bool passed, std::string_view what, std::string_view detail);
  // Something that could not be checked: loud, and neither passed nor failed.
  void Skipped(std::string_view what, std::string_view why);
  // The same as Line, from two arrays; sizes must agree too.
  void Compare(std::string_view what, absl::Span<const float> actual,
               absl::Span<const float> expected, const Tolerance& tolerance);
  void CompareExact(std::string_view what, absl::Span<const int32_t> actual,
                    absl::Span<const int32_t> expected);

  int num_passed() const { return num_passed_; }
  int num_failed() const { return num_failed_; }
  int num_skipped() const { return num_skipped_; }

 private:
  std::FILE* out_;
  int num_passed_ = 0;
  int num_failed_ = 0;
  int num_skipped_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_REPORT_H_
