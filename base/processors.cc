#include "base/processors.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace orrery {
namespace {

constexpr int kMaxCpu = 4095;

// Sets of any size: cpu_set_t ends at 1024.
class CpuSet {
 public:
  CpuSet() : set_(CPU_ALLOC(kMaxCpu + 1)) { CPU_ZERO_S(num_bytes(), set_); }
  ~CpuSet() { CPU_FREE(set_); }
  CpuSet(const CpuSet&) = delete;
  CpuSet& operator=(const CpuSet&) = delete;

  static size_t num_bytes() { return CPU_ALLOC_SIZE(kMaxCpu + 1); }
  cpu_set_t* get() { return set_; }
  void Add(int cpu) { CPU_SET_S(cpu, num_bytes(), set_); }
  bool Has(int cpu) const { return CPU_ISSET_S(cpu, num_bytes(), set_); }

 private:
  cpu_set_t* set_;
};

std::vector<int> AllowedProcessors() {
  CpuSet set;
  std::vector<int> cpus;
  if (sched_getaffinity(0, CpuSet::num_bytes(), set.get()) != 0) return cpus;
  for (int cpu = 0; cpu <= kMaxCpu; ++cpu) {
    if (set.Has(cpu)) cpus.push_back(cpu);
  }
  return cpus;
}

// Processors that the quota is worth; 0: no limit. In a container its own group is the root of what
// it sees.
int QuotaProcessors() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0.0, limit = 0.0;
  if (!(file >> quota >> period) || period <= 0.0) return 0;
  if (!absl::SimpleAtod(quota, &limit)) return 0;  // "max"
  return static_cast<int>((limit + period - 1.0) / period);
}

bool ParseCpu(std::string_view text, int* cpu) {
  return !text.empty() && text.size() <= 4 &&
         text.find_first_not_of("0123456789") == std::string_view::npos &&
         absl::SimpleAtoi(std::string(text), cpu) && *cpu <= kMaxCpu;
}

}  // namespace

absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text) {
  if (text.empty()) return std::vector<int>();
  std::set<int> cpus;
  const std::string whole(text);  // Abseil's string_view is not the standard's here
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(whole, ','))) {
    const std::vector<std::string> ends = absl::StrSplit(part, '-');
    int first = 0, last = 0;
    if (ends.size() > 2 || !ParseCpu(ends.front(), &first) || !ParseCpu(ends.back(), &last) ||
        first > last) {
      return absl::InvalidArgumentError(
          absl::StrCat("processors \"", whole,
                       "\": must be numbers up to 4095 and ranges of them, like \"0-7,16\""));
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
  }
  return std::vector<int>(cpus.begin(), cpus.end());
}

int NumUsableProcessors() {
  const int allowed = std::max(1, static_cast<int>(AllowedProcessors().size()));
  const int quota = QuotaProcessors();
  return quota > 0 ? std::min(allowed, quota) : allowed;
}

absl::Status KeepToProcessors(const std::vector<int>& cpus) {
  if (cpus.empty()) return absl::OkStatus();
  const std::vector<int> allowed = AllowedProcessors();
  CpuSet set;
  for (const int cpu : cpus) {
    if (!std::binary_search(allowed.begin(), allowed.end(), cpu)) {
      return absl::FailedPreconditionError(absl::StrCat("processor ", cpu, " of \"",
                                                        absl::StrJoin(cpus, ","),
                                                        "\" is not one of those that this process "
                                                        "may use, ",
                                                        absl::StrJoin(allowed, ",")));
    }
    set.Add(cpu);
  }
  if (sched_setaffinity(0, CpuSet::num_bytes(), set.get()) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot keep to processors \"", absl::StrJoin(cpus, ","), "\": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace orrery
