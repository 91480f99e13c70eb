#include "base/memory_limit.h"

#include <algorithm>
#include <fstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace orrery {
namespace {

// What version 1 shows where there is no limit: the largest number of whole pages.
constexpr int64_t kUnlimited = int64_t{1} << 60;

// "max" is none.
std::optional<int64_t> ReadLimit(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  int64_t bytes = 0;
  if (!(file >> text) || !absl::SimpleAtoi(text, &bytes) || bytes >= kUnlimited) {
    return std::nullopt;
  }
  return bytes;
}

// The least of the group and those above it. A process in a container sees the path that its group has
// outside, and under `mount` its own group alone: that is the last that is looked at.
std::optional<int64_t> LeastLimit(const std::string& mount, std::string group,
                                  const std::string& file) {
  std::optional<int64_t> least;
  while (true) {
    const std::optional<int64_t> limit = ReadLimit(absl::StrCat(mount, group, "/", file));
    if (limit.has_value()) least = std::min(least.value_or(*limit), *limit);
    if (group.empty()) return least;
    group.resize(std::min(group.rfind('/'), group.size() - 1));
  }
}

}  // namespace

std::optional<int64_t> ControlGroupMemory(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  const std::string mount = root + "/sys/fs/cgroup";
  std::optional<int64_t> least;
  for (std::string line; std::getline(file, line);) {
    // "0::/group" of version 2, "9:memory:/group" of version 1.
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() < 3) continue;
    const std::string group = parts[2] == "/" ? "" : parts[2];
    std::optional<int64_t> limit;
    if (parts[1].empty()) {
      limit = LeastLimit(mount, group, "memory.max");
    } else if (parts[1] == "memory") {
      limit = LeastLimit(mount + "/memory", group, "memory.limit_in_bytes");
    }
    if (limit.has_value()) least = std::min(least.value_or(*limit), *limit);
  }
  return least;
}

int64_t MachineMemory(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string name;
  int64_t kibibytes = 0;
  return file >> name >> kibibytes && name == "MemTotal:" ? kibibytes * 1024 : 0;
}

}  // namespace orrery
