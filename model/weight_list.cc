#include "model/weight_list.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace orrery {

int64_t WeightRecord::num_values() const {
  int64_t num = 0;
  for (const WeightItem& item : items) num += int64_t{item.num_rows} * item.num_cols;
  return num;
}

std::string RecordKeyOf(const std::string& tensor_name) {
  if (!absl::StartsWith(tensor_name, "model.layers.")) return tensor_name;
  std::vector<std::string> words = absl::StrSplit(tensor_name, '.');
  const bool is_expert = words.size() > 6 && words[3] == "mlp" && words[4] == "experts";
  words.resize(is_expert ? 6 : 3);
  return absl::StrJoin(words, ".");
}

std::string ExpertRecord(int layer, int expert) {
  return absl::StrCat("model.layers.", layer, ".mlp.experts.", expert);
}

std::vector<std::string> RankRecords(const ModelConfig& config, bool with_mtp) {
  std::vector<std::string> keys = {"model.embed_tokens.weight"};
  for (int layer = 0; layer < config.num_layers + (with_mtp ? 1 : 0); ++layer) {
    keys.push_back(absl::StrCat("model.layers.", layer));
  }
  keys.push_back("model.norm.weight");
  if (!config.tie_word_embeddings) keys.push_back("lm_head.weight");
  return keys;
}

void WeightLister::Add(const WeightItem& item) {
  const std::string key = RecordKeyOf(item.name);
  // Mostly the last one.
  const auto record = std::find_if(records_.rbegin(), records_.rend(),
                                   [&](const WeightRecord& known) { return known.key == key; });
  if (record != records_.rend()) {
    record->items.push_back(item);
  } else {
    records_.push_back({.key = key, .items = {item}});
  }
}

absl::StatusOr<std::unique_ptr<Weight>> WeightLister::LoadWeight(const WeightItem& item) {
  Add(item);
  return nullptr;
}

absl::StatusOr<Buffer> WeightLister::LoadVector(const WeightItem& item) {
  Add(item);
  return Buffer();
}

absl::StatusOr<Table> WeightLister::LoadTable(const WeightItem& item) {
  Add(item);
  return Table();
}

absl::StatusOr<KvHeadWeights> WeightLister::LoadKvHeads(const WeightItem& item) {
  Add(item);
  return KvHeadWeights();
}

}  // namespace orrery
