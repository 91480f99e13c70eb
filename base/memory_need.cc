#include "base/memory_need.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace orrery {
namespace {

// How much of the part would fit beside the others.
std::string Fitting(const MemoryPart& part, size_t rest_bytes, size_t room_bytes) {
  if (rest_bytes + part.unit_bytes > room_bytes) {
    return absl::StrCat("no ", part.name, " would fit beside the rest");
  }
  const size_t fitting = (room_bytes - rest_bytes) / part.unit_bytes * part.unit_bytes;
  return absl::StrCat(part.smaller_by, " of at most ", fitting, " would fit");
}

}  // namespace

size_t MemoryNeed::total() const {
  size_t total = 0;
  for (const MemoryPart& part : parts_) total += part.bytes;
  return total;
}

std::string MemoryNeed::ToString() const {
  return absl::StrJoin(parts_, ", ", [](std::string* out, const MemoryPart& part) {
    absl::StrAppend(out, part.name, " ", MemoryText(part.bytes));
    if (!part.detail.empty()) absl::StrAppend(out, " (", part.detail, ")");
  });
}

absl::Status CheckFits(const std::string& who, const MemoryNeed& need, const MemoryRoom& room) {
  if (need.total() <= room.bytes) return absl::OkStatus();
  std::vector<std::string> advice, smaller;
  for (const MemoryPart& part : need.parts()) {
    if (part.unit_bytes > 0) {
      advice.push_back(Fitting(part, need.total() - part.bytes, room.bytes));
    } else if (!part.smaller_by.empty()) {
      smaller.push_back(absl::StrCat(part.name, " by ", part.smaller_by));
    }
  }
  if (!smaller.empty()) {
    advice.push_back(absl::StrCat("make smaller: ", absl::StrJoin(smaller, ", ")));
  }
  return absl::ResourceExhaustedError(
      absl::StrCat(who, " needs ", MemoryText(need.total()), ": ", need.ToString(), "; ", room.text,
                   advice.empty() ? "" : ". ", absl::StrJoin(advice, "; ")));
}

std::string MemoryText(size_t num_bytes) {
  return num_bytes >= 1'000'000'000 ? absl::StrFormat("%.2f GB", num_bytes * 1e-9)
                                    : absl::StrFormat("%.1f MB", num_bytes * 1e-6);
}

}  // namespace orrery
