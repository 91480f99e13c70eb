#include "tools/bench/kernels/machine/machine_facts.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace orrery {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Behind the colon of the first line that starts so.
std::string Entry(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (!absl::StartsWith(line, name) || colon == std::string::npos) continue;
    return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return "";
}

// The largest of the highest level.
int64_t LastLevelCacheBytes(const std::string& root) {
  int last_level = 0;
  int64_t num_bytes = 0;
  for (int index = 0; index < 16; ++index) {
    const std::string folder =
        absl::StrCat(root, "sys/devices/system/cpu/cpu0/cache/index", index, "/");
    int level = 0;
    const std::optional<int64_t> size = ParseCacheSize(FirstLine(folder + "size"));
    if (!absl::SimpleAtoi(FirstLine(folder + "level"), &level) || !size.has_value()) continue;
    if (level < last_level) continue;
    num_bytes = level > last_level ? *size : std::max(num_bytes, *size);
    last_level = level;
  }
  return num_bytes;
}

}  // namespace

std::optional<int64_t> ParseCacheSize(std::string_view text) {
  int64_t unit = 1;
  std::string digits(text);
  if (!digits.empty() && (digits.back() == 'K' || digits.back() == 'M')) {
    unit = digits.back() == 'K' ? 1024 : kMiB;
    digits.pop_back();
  }
  int64_t number = 0;
  if (!absl::SimpleAtoi(digits, &number) || number < 0 || number > (int64_t{1} << 40) / unit) {
    return std::nullopt;
  }
  return number * unit;
}

MachineFacts ReadMachineFacts(const std::string& root) {
  MachineFacts facts;
  facts.processor = Entry(root + "proc/cpuinfo", "model name");
  facts.num_cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  facts.last_level_cache_bytes = LastLevelCacheBytes(root);
  const std::string available = Entry(root + "proc/meminfo", "MemAvailable");  // "22000000 kB"
  int64_t kilobytes = 0;
  if (absl::SimpleAtoi(available.substr(0, available.find(' ')), &kilobytes)) {
    facts.available_memory_bytes = kilobytes * 1024;
  }
  const std::string load = FirstLine(root + "proc/loadavg");  // "7.39 8.51 7.72 ..."
  if (!absl::SimpleAtod(load.substr(0, load.find(' ')), &facts.load_average)) {
    facts.load_average = 0.0;
  }
  return facts;
}

int64_t WorkingSetBytes(int64_t wish, const MachineFacts& facts) {
  int64_t bytes = wish;
  if (bytes <= 0) bytes = std::max(3 * facts.last_level_cache_bytes, 64 * kMiB);
  if (facts.available_memory_bytes > 0) bytes = std::min(bytes, facts.available_memory_bytes / 8);
  return bytes;
}

}  // namespace orrery
