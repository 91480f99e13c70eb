#include "rpc/monitoring/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>

namespace orrery {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

// When the machine started, seconds since 1970.
std::optional<double> BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string key; file >> key; file.ignore(1 << 20, '\n')) {
    double seconds = 0;
    if (key == "btime" && file >> seconds) return seconds;
  }
  return std::nullopt;
}

std::optional<double> StartTime() {
  constexpr int kStartTime = 22;  // of the fields that proc(5) numbers from 1
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  // The second field is the program's name in brackets, and may hold spaces.
  const size_t name_end = line.rfind(')');
  const std::optional<double> boot = BootTime();
  if (name_end == std::string::npos || !boot.has_value()) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < kStartTime; ++field) fields >> skipped;
  double ticks = 0;
  if (!(fields >> ticks)) return std::nullopt;
  return *boot + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

void AddProcessMetrics(MetricFamilies& families) {
  rusage usage = {};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    families.AddCounter("process_cpu_seconds_total", "User and system processor time.",
                        Seconds(usage.ru_utime) + Seconds(usage.ru_stime));
  }
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  double num_pages = 0, num_resident = 0;
  if (std::ifstream("/proc/self/statm") >> num_pages >> num_resident) {
    families.AddGauge("process_resident_memory_bytes", "Memory in RAM.", num_resident * page);
    families.AddGauge("process_virtual_memory_bytes", "Address space.", num_pages * page);
  }
  std::error_code error;
  const std::filesystem::directory_iterator fds("/proc/self/fd", error);
  if (!error) {
    // One of them reads the folder.
    families.AddGauge("process_open_fds", "Open file descriptors.",
                      static_cast<double>(std::distance(begin(fds), end(fds)) - 1));
  }
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    families.AddGauge("process_max_fds", "File descriptors that may be open.",
                      static_cast<double>(limit.rlim_cur));
  }
  static const std::optional<double> start_time = StartTime();
  if (start_time.has_value()) {
    families.AddGauge("process_start_time_seconds", "When it started, since 1970.", *start_time);
  }
}

}  // namespace orrery
