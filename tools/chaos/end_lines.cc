#include "tools/chaos/end_lines.h"

#include <algorithm>

namespace orrery {
namespace {

constexpr std::string_view kBegin = "] request ";
constexpr std::string_view kOk = ": OK,";

}  // namespace

void EndLines::Add(std::string_view log) {
  while (!log.empty()) {
    const std::string_view line = log.substr(0, log.find('\n'));
    log.remove_prefix(std::min(log.size(), line.size() + 1));
    const size_t begin = line.find(kBegin);
    const size_t end = line.find(kOk);
    if (begin == line.npos || end == line.npos) continue;
    const size_t id = begin + kBegin.size();
    if (id < end) ++num_ok_[std::string(line.substr(id, end - id))];
  }
}

int64_t EndLines::CountNotOnce(const std::vector<std::string>& request_ids) const {
  return std::count_if(request_ids.begin(), request_ids.end(), [this](const std::string& id) {
    const auto lines = num_ok_.find(id);
    return lines == num_ok_.end() || lines->second != 1;
  });
}

}  // namespace orrery
