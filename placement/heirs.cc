#include "placement/heirs.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <utility>

namespace orrery {
namespace {

constexpr int kMaxChoices = 100'000;

// FNV-1a, and the finalizer of MurmurHash3: every process on every machine gets the same.
uint64_t HashName(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccd;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53;
  return x ^ (x >> 33);
}

uint64_t Claim(ExpertKey key, const std::string& shard_name) {
  const uint64_t expert =
      uint64_t{static_cast<uint32_t>(key.layer)} << 32 | static_cast<uint32_t>(key.expert);
  return Mix(HashName(shard_name) ^ Mix(expert + 1));
}

// How many experts have exactly these holders.
std::map<std::vector<int>, int> CountByHolders(const HolderTable& holders,
                                               const Coverage& coverage) {
  std::map<std::vector<int>, int> counts;
  for (const int layer : coverage.layers) {
    for (int expert = 0; expert < coverage.num_experts; ++expert) {
      ++counts[holders.Holders({.layer = layer, .expert = expert})];
    }
  }
  return counts;
}

// The next choice of so many of num_shards, in lexicographic order; false after the last.
bool NextChoice(std::vector<int>& chosen, int num_shards) {
  const int num_chosen = static_cast<int>(chosen.size());
  for (int i = num_chosen - 1; i >= 0; --i) {
    if (chosen[i] == num_shards - num_chosen + i) continue;
    std::iota(chosen.begin() + i, chosen.end(), chosen[i] + 1);
    return true;
  }
  return false;
}

}  // namespace

std::vector<int> HeirOrder(ExpertKey key, absl::Span<const std::string> shard_names) {
  std::vector<std::pair<uint64_t, int>> claims;
  for (int shard = 0; shard < static_cast<int>(shard_names.size()); ++shard) {
    claims.emplace_back(Claim(key, shard_names[shard]), shard);
  }
  std::sort(claims.begin(), claims.end(), [&](const auto& a, const auto& b) {
    if (a.first != b.first) return a.first > b.first;
    return shard_names[a.second] < shard_names[b.second];
  });
  std::vector<int> order;
  for (const auto& [claim, shard] : claims) order.push_back(shard);
  return order;
}

int NeededRoom(int experts_per_shard, int num_shards, int max_failed_shards) {
  const int num_left = num_shards - max_failed_shards;
  if (num_left <= 0) return 0;
  const int64_t orphans = int64_t{experts_per_shard} * max_failed_shards;
  return static_cast<int>((orphans + num_left - 1) / num_left);
}

std::optional<Uncovered> FindUncovered(const HolderTable& holders, const Coverage& coverage) {
  const std::map<std::vector<int>, int> counts = CountByHolders(holders, coverage);
  const int num_shards = holders.num_shards();
  const int all_room = std::accumulate(coverage.room.begin(), coverage.room.end(), 0);
  std::vector<int> failed(std::min(coverage.max_failed_shards, num_shards));
  std::iota(failed.begin(), failed.end(), 0);
  std::optional<Uncovered> worst;
  for (int i = 0; i < kMaxChoices; ++i) {
    Uncovered found = {.failed_shards = failed, .num_experts = 0, .room = all_room};
    for (const int shard : failed) found.room -= coverage.room[shard];
    for (const auto& [of, num_experts] : counts) {
      if (std::includes(failed.begin(), failed.end(), of.begin(), of.end())) {
        found.num_experts += num_experts;
      }
    }
    const int lack = found.num_experts - found.room;
    if (lack > 0 && (!worst.has_value() || lack > worst->num_experts - worst->room)) {
      worst = std::move(found);
    }
    if (!NextChoice(failed, num_shards)) break;
  }
  return worst;
}

}  // namespace orrery
