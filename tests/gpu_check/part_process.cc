#include "tests/gpu_check/part_process.h"

#include <fstream>
#include <iterator>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "tools/launch/child_process.h"

namespace orrery {
namespace {

std::string FilePath(const std::string& log_dir, const std::string& part, const char* suffix) {
  return absl::StrCat(log_dir, "/", absl::StrReplaceAll(part, {{"/", "_"}}), suffix);
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

}  // namespace

std::string LogPath(const std::string& log_dir, const std::string& part) {
  return FilePath(log_dir, part, ".log");
}

PartResult RunPart(const PartProcess& part) {
  const std::string report = FilePath(part.log_dir, part.name, ".report");
  std::vector<std::string> argv = part.argv;
  argv.push_back(absl::StrCat("--part=", part.name));
  argv.push_back(absl::StrCat("--report_file=", report));
  const absl::Time begin = absl::Now();
  const auto child = ChildProcess::Start(argv, LogPath(part.log_dir, part.name));
  PartResult result;
  std::string how = std::string(child.status().message());
  if (child.ok()) {
    const std::optional<ExitResult> exit = (*child)->WaitUntil(begin + part.timeout);
    result = ReadPartReport(ReadFile(report));
    const bool is_over = exit.has_value() && exit->signal == 0 && result.running.empty();
    // GoogleTest's 1 says what the report says; anything else is news.
    const bool is_told = is_over && (exit->code == 0 || !result.failed.empty());
    how = is_told            ? ""
          : exit.has_value() ? exit->ToString()
                             : absl::StrCat("not over after ", absl::FormatDuration(part.timeout));
  }
  if (!how.empty()) {
    result.failed.push_back(
        absl::StrCat(result.running.empty() ? part.name : result.running, ": ", how));
  }
  result.name = part.name;
  result.seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  return result;
}

}  // namespace orrery
