#include "tests/gpu_check/part_report.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace orrery {
namespace {

std::string NameOf(const testing::TestInfo& test) {
  return absl::StrCat(test.test_suite_name(), ".", test.name());
}

std::string SkipReason(const testing::TestResult& result) {
  for (int i = 0; i < result.total_part_count(); ++i) {
    const testing::TestPartResult& part = result.GetTestPartResult(i);
    if (part.skipped()) return part.summary();
  }
  return "";
}

void AddOnce(std::string text, std::vector<std::string>& all) {
  if (std::find(all.begin(), all.end(), text) == all.end()) all.push_back(std::move(text));
}

}  // namespace

void PartReporter::Say(char kind, const std::string& text) {
  out_ << kind << ' ' << absl::StrReplaceAll(text, {{"\n", " "}}) << std::endl;
}

void PartReporter::OnTestStart(const testing::TestInfo& test) { Say('B', NameOf(test)); }

void PartReporter::OnTestEnd(const testing::TestInfo& test) {
  const testing::TestResult& result = *test.result();
  for (int i = 0; i < result.test_property_count(); ++i) {
    const testing::TestProperty& property = result.GetTestProperty(i);
    if (absl::StartsWith(property.key(), kNoteKey)) Say('N', property.value());
  }
  if (result.Skipped()) {
    Say('S', SkipReason(result));
  } else {
    Say(result.Passed() ? 'P' : 'F', NameOf(test));
  }
}

PartResult ReadPartReport(std::string_view text) {
  PartResult result;
  for (const absl::string_view line :
       absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    if (line.size() < 2) continue;
    std::string rest(line.substr(2));
    if (line[0] != 'N') result.running = line[0] == 'B' ? rest : "";
    if (line[0] == 'P') ++result.num_passed;
    if (line[0] == 'F') result.failed.push_back(std::move(rest));
    if (line[0] == 'N') result.notes.push_back(std::move(rest));
    if (line[0] == 'S') {
      ++result.num_skipped;
      AddOnce(std::move(rest), result.skipped);
    }
  }
  return result;
}

}  // namespace orrery
