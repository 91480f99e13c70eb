#include "tools/bench/process_usage.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

// As far as it can be read: the process may end meanwhile, of which a stream's buffer alone would throw.
std::string ReadAll(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

// Its --name, else its number.
std::string NameOf(const fs::path& folder) {
  for (const absl::string_view argument : absl::StrSplit(ReadAll(folder / "cmdline"), '\0')) {
    if (absl::StartsWith(argument, "--name=")) return std::string(argument.substr(7));
  }
  return absl::StrCat("process ", folder.filename().string());
}

int CountEntries(const fs::path& folder) {
  std::error_code error;
  int count = 0;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    ++count;
  }
  return count;
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

}  // namespace

UsageSnapshot TakeUsageSnapshot() {
  UsageSnapshot snapshot;
  snapshot.time = absl::Now();
  rusage own = {};
  if (getrusage(RUSAGE_SELF, &own) == 0) {
    snapshot.own_cpu_seconds = Seconds(own.ru_utime) + Seconds(own.ru_stime);
  }
  const double ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::optional<ProcStat> stat = ParseProcStat(ReadAll(entry.path() / "stat"));
    if (!stat.has_value() || stat->parent != getpid()) continue;
    const std::string rollup = ReadAll(entry.path() / "smaps_rollup");
    if (rollup.empty()) continue;  // it has ended
    int pid = 0;
    if (!absl::SimpleAtoi(name, &pid)) continue;
    snapshot.children[NameOf(entry.path())] = {
        .cpu_seconds = static_cast<double>(stat->cpu_ticks) / ticks_per_second,
        .anonymous_bytes = ParseRollupBytes(rollup, "Anonymous"),
        .pid = pid,
        .swapped_bytes = ParseRollupBytes(rollup, "Swap"),
        .num_descriptors = CountEntries(entry.path() / "fd")};
  }
  return snapshot;
}

UsageDelta UsageBetween(const UsageSnapshot& before, const UsageSnapshot& after) {
  const double seconds = std::max(absl::ToDoubleSeconds(after.time - before.time), 1e-9);
  UsageDelta delta;
  delta.own_cores = (after.own_cpu_seconds - before.own_cpu_seconds) / seconds;
  for (const auto& [name, usage] : after.children) {
    const auto earlier = before.children.find(name);
    if (earlier == before.children.end()) continue;
    delta.child_cores[name] = (usage.cpu_seconds - earlier->second.cpu_seconds) / seconds;
  }
  return delta;
}

std::map<std::string, int64_t> GrowthBetween(const UsageSnapshot& before,
                                             const UsageSnapshot& after) {
  std::map<std::string, int64_t> growth;
  for (const auto& [name, usage] : after.children) {
    const auto earlier = before.children.find(name);
    if (earlier == before.children.end()) continue;
    growth[name] = usage.anonymous_bytes - earlier->second.anonymous_bytes;
  }
  return growth;
}

// proc(5): pid (comm) state ppid ... utime and stime are fields 14 and 15. A comm may hold anything,
// parentheses and spaces too.
std::optional<ProcStat> ParseProcStat(const std::string& line) {
  const size_t end_of_comm = line.rfind(") ");
  if (end_of_comm == std::string::npos) return std::nullopt;
  constexpr int kFirstField = 3;
  const std::vector<std::string> fields =
      absl::StrSplit(line.substr(end_of_comm + 2), absl::ByAnyChar(" \n"), absl::SkipEmpty());
  const auto read = [&](int field, auto* value) {
    const size_t index = static_cast<size_t>(field - kFirstField);
    return index < fields.size() && absl::SimpleAtoi(fields[index], value);
  };
  ProcStat stat;
  int64_t user = 0, system = 0;
  if (!read(4, &stat.parent) || !read(14, &user) || !read(15, &system)) return std::nullopt;
  stat.cpu_ticks = user + system;
  return stat;
}

// "Anonymous:         1234 kB"
int64_t ParseRollupBytes(const std::string& smaps_rollup, const std::string& field) {
  for (absl::string_view line : absl::StrSplit(smaps_rollup, '\n')) {
    int64_t kilobytes = 0;
    if (absl::ConsumePrefix(&line, field + ":") && absl::ConsumeSuffix(&line, "kB") &&
        absl::SimpleAtoi(line, &kilobytes)) {
      return kilobytes * 1024;
    }
  }
  return 0;
}

}  // namespace orrery
