#include "tests/gpu_check/summary.h"

#include "absl/strings/str_format.h"

namespace orrery {
namespace {

struct Totals {
  int num_passed = 0;
  int num_failed = 0;
  int num_skipped = 0;
};

Totals TotalsOf(const std::vector<PartResult>& parts) {
  Totals totals;
  for (const PartResult& part : parts) {
    totals.num_passed += part.num_passed;
    totals.num_failed += static_cast<int>(part.failed.size());
    totals.num_skipped += part.num_skipped;
  }
  return totals;
}

}  // namespace

std::string SummaryText(const std::vector<PartResult>& parts) {
  std::string text =
      absl::StrFormat("%-24s %7s %7s %8s %9s\n", "part", "passed", "failed", "skipped", "seconds");
  for (const PartResult& part : parts) {
    absl::StrAppendFormat(&text, "%-24s %7d %7d %8d %9.1f\n", part.name, part.num_passed,
                          part.failed.size(), part.num_skipped, part.seconds);
    for (const std::string& name : part.failed)
      absl::StrAppendFormat(&text, "  FAILED: %s\n", name);
    for (const std::string& why : part.skipped)
      absl::StrAppendFormat(&text, "  SKIPPED: %s\n", why);
    for (const std::string& note : part.notes) absl::StrAppendFormat(&text, "  %s\n", note);
  }
  const Totals totals = TotalsOf(parts);
  absl::StrAppendFormat(&text, "%d passed, %d failed, %d skipped: exit code %d\n",
                        totals.num_passed, totals.num_failed, totals.num_skipped,
                        ExitCodeOf(parts));
  return text;
}

int ExitCodeOf(const std::vector<PartResult>& parts) {
  const Totals totals = TotalsOf(parts);
  return totals.num_failed == 0 && totals.num_passed > 0 ? 0 : 1;
}

}  // namespace orrery
