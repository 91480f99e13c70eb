#include "rpc/memory_budget.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/memory_limit.h"
#include "rpc/address.h"

namespace orrery {
namespace {

// A router of the smallest model that has done nothing yet has 7 MB of its own, which no file backs, with 18 threads:
// gRPC, stacks, protobuf's tables. The rest is for more threads, whose stacks are touched by some 100 KB each.
constexpr size_t kProcessBytes = size_t{48} << 20;

// The tree of a JSON file beside its text, and the tables that are made of it: a token of DeepSeek-V3's tokenizer.json
// is some 30 bytes of it with its merge, 100 of the tree and 150 of the tokenizer's tables.
constexpr size_t kParsedFactor = 12;

// The whole address where it is no host:port; then nobody else has it.
std::string HostOf(const ClusterMember& member) {
  const absl::StatusOr<HostPort> address = ParseHostPort(member.address());
  return address.ok() ? address->host : member.address();
}

int NumMembersBeside(const internal::ClusterFile& cluster, const ClusterMember& member) {
  int num_here = 0;
  for (const auto& [role, other] : AllMembers(cluster))
    num_here += HostOf(*other) == HostOf(member);
  return std::max(num_here, 1);
}

}  // namespace

MemoryBudget MemoryBudgetOf(const internal::ClusterFile& cluster, const ClusterMember& member,
                            const std::string& root) {
  if (member.memory_bytes() > 0) {
    return {.bytes = static_cast<size_t>(member.memory_bytes()),
            .source = "its memory_bytes in the cluster file"};
  }
  const std::optional<int64_t> limit = ControlGroupMemory(root);
  if (limit.has_value()) {
    return {
        .bytes = static_cast<size_t>(std::max<int64_t>(*limit, 1)),
        .source = "the limit of its control group; memory_bytes in the cluster file sets another"};
  }
  const int64_t machine = MachineMemory(root);
  const int num_here = NumMembersBeside(cluster, member);
  return {.bytes = static_cast<size_t>(std::max<int64_t>(machine / num_here, 1)),
          .source = absl::StrCat("the ", MemoryText(machine), " of its machine over the ", num_here,
                                 num_here == 1 ? " member" : " members",
                                 " on it; memory_bytes in the cluster file sets another")};
}

void AddProcess(size_t churning_bytes, MemoryNeed& need) {
  need.Add({.name = "what the heap keeps", .bytes = KeptBytesAtMost(churning_bytes)});
  need.Add({.name = "the process", .bytes = kProcessBytes});
}

size_t ParsedBytes(const std::vector<std::string>& paths) {
  size_t total = 0;
  for (const std::string& path : paths) {
    std::error_code error;
    const auto num_bytes = std::filesystem::file_size(path, error);
    if (!error) total += kParsedFactor * num_bytes;
  }
  return total;
}

size_t LeftForRequests(const MemoryBudget& budget, const MemoryNeed& fixed, size_t churning_bytes) {
  const size_t taken = fixed.total() + kProcessBytes;
  if (taken >= budget.bytes) return 0;
  const size_t left = budget.bytes - taken;
  // What requests take, the heap keeps once more: half, or all but the most that it keeps.
  const size_t kept_at_most = KeptBytesAtMost(std::numeric_limits<size_t>::max());
  const size_t half = left > churning_bytes ? (left - churning_bytes) / 2 : 0;
  return std::max(half, left > kept_at_most ? left - kept_at_most : 0);
}

int64_t AddRequestsAndProcess(const MemoryBudget& budget, const RequestPlaces& places,
                              size_t churning_bytes, MemoryNeed& need) {
  const int64_t longest = places.longest_bytes;
  const auto left = static_cast<int64_t>(LeftForRequests(budget, need, churning_bytes) / 2);
  const int64_t max_bytes =
      std::clamp(left, longest, std::max(places.num_places, int64_t{1}) * longest);
  const size_t both = 2 * max_bytes;
  need.Add({.name = "requests",
            .bytes = both,
            .detail = absl::StrCat("the longest ", MemoryText(longest)),
            .smaller_by = "limits.max_context_tokens"});
  AddProcess(churning_bytes + both, need);
  return max_bytes;
}

absl::Status TakeBudget(const std::string& member, const MemoryNeed& need,
                        const MemoryBudget& budget) {
  RETURN_IF_ERROR(CheckFits(
      member, need,
      {.bytes = budget.bytes,
       .text = absl::StrCat("its budget is ", MemoryText(budget.bytes), ", ", budget.source)}));
  LogInfo("needs at most ", MemoryText(need.total()), " of memory: ", need.ToString(),
          "; its budget is ", MemoryText(budget.bytes), ", ", budget.source);
  return absl::OkStatus();
}

}  // namespace orrery
