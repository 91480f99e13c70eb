#include "placement/placement.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace orrery {
namespace {

// "12-15, 20"
std::string DescribeRanges(const std::vector<int>& sorted) {
  std::string text;
  for (size_t begin = 0; begin < sorted.size();) {
    size_t end = begin + 1;
    while (end < sorted.size() && sorted[end] == sorted[end - 1] + 1) ++end;
    absl::StrAppend(&text, text.empty() ? "" : ", ", sorted[begin]);
    if (end - begin > 1) absl::StrAppend(&text, "-", sorted[end - 1]);
    begin = end;
  }
  return text;
}

}  // namespace

std::vector<ExpertRange> DefaultPlacement(PlacementSize size) {
  ORRERY_CHECK(size.num_experts >= 0 && size.num_shards > 0)
      << size.num_experts << " experts on " << size.num_shards << " shards";
  const auto border = [size](int shard) {
    return static_cast<int>(static_cast<int64_t>(shard) * size.num_experts / size.num_shards);
  };
  std::vector<ExpertRange> ranges(size.num_shards);
  for (int shard = 0; shard < size.num_shards; ++shard) {
    ranges[shard] = {.begin = border(shard), .end = border(shard + 1)};
  }
  return ranges;
}

std::vector<ExpertRange> HomePlacement(int num_experts, const std::vector<bool>& is_spare) {
  const auto num_homes = static_cast<int>(std::count(is_spare.begin(), is_spare.end(), false));
  const std::vector<ExpertRange> ranges =
      DefaultPlacement({.num_experts = num_experts, .num_shards = num_homes});
  std::vector<ExpertRange> homes(is_spare.size());
  size_t next = 0;
  for (size_t shard = 0; shard < homes.size(); ++shard) {
    if (!is_spare[shard]) homes[shard] = ranges[next++];
  }
  return homes;
}

void HolderTable::SetHeld(int shard, absl::Span<const LayerExperts> held) {
  ORRERY_CHECK(shard >= 0 && shard < num_shards_) << "shard " << shard << " of " << num_shards_;
  for (auto& [layer, experts] : holders_) {
    for (auto& [expert, shards] : experts) std::erase(shards, shard);
  }
  for (const LayerExperts& of_layer : held) {
    for (int expert : of_layer.experts) Add(shard, {.layer = of_layer.layer, .expert = expert});
  }
}

void HolderTable::Add(int shard, ExpertKey key) {
  std::vector<int>& shards = holders_[key.layer][key.expert];
  const auto place = std::lower_bound(shards.begin(), shards.end(), shard);
  if (place == shards.end() || *place != shard) shards.insert(place, shard);
}

void HolderTable::Remove(int shard, ExpertKey key) {
  const auto layer = holders_.find(key.layer);
  if (layer == holders_.end()) return;
  const auto expert = layer->second.find(key.expert);
  if (expert != layer->second.end()) std::erase(expert->second, shard);
}

const std::vector<int>& HolderTable::Holders(ExpertKey key) const {
  static const std::vector<int>* const kNone = new std::vector<int>();
  const auto layer = holders_.find(key.layer);
  if (layer == holders_.end()) return *kNone;
  const auto expert = layer->second.find(key.expert);
  return expert == layer->second.end() ? *kNone : expert->second;
}

bool HolderTable::Holds(int shard, ExpertKey key) const {
  const std::vector<int>& shards = Holders(key);
  return std::binary_search(shards.begin(), shards.end(), shard);
}

int HolderTable::Pick(ExpertKey key, const std::vector<bool>& usable) const {
  ORRERY_CHECK(static_cast<int>(usable.size()) == num_shards_)
      << usable.size() << " flags for " << num_shards_ << " shards";
  const std::vector<int>& shards = Holders(key);
  for (size_t i = 0; i < shards.size(); ++i) {
    const int shard = shards[(static_cast<size_t>(key.expert) + i) % shards.size()];
    if (usable[shard]) return shard;
  }
  return kNoShard;
}

std::vector<LayerExperts> HolderTable::MissingExperts(absl::Span<const int> layers, int num_experts,
                                                      const std::vector<bool>& usable) const {
  std::vector<LayerExperts> missing;
  for (int layer : layers) {
    LayerExperts of_layer{.layer = layer, .experts = {}};
    for (int expert = 0; expert < num_experts; ++expert) {
      if (Pick({layer, expert}, usable) == kNoShard) of_layer.experts.push_back(expert);
    }
    if (!of_layer.experts.empty()) missing.push_back(std::move(of_layer));
  }
  return missing;
}

std::string DescribeMissing(absl::Span<const LayerExperts> missing) {
  std::string text;
  for (size_t begin = 0; begin < missing.size();) {
    // Neighbouring layers that lack the same experts, as when a whole shard is gone, are told
    // together.
    size_t end = begin + 1;
    while (end < missing.size() && missing[end].layer == missing[end - 1].layer + 1 &&
           missing[end].experts == missing[begin].experts) {
      ++end;
    }
    if (end - begin == 1) {
      absl::StrAppend(&text, text.empty() ? "" : "; ", "layer ", missing[begin].layer);
    } else {
      absl::StrAppend(&text, text.empty() ? "" : "; ", "layers ", missing[begin].layer, "-",
                      missing[end - 1].layer);
    }
    const bool one = missing[begin].experts.size() == 1;
    absl::StrAppend(&text, one ? ": expert " : ": experts ", DescribeRanges(missing[begin].experts),
                    one ? " has" : " have", " no holder");
    begin = end;
  }
  return text;
}

}  // namespace orrery
