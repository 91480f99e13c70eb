// What a model consists of: the items that its loading asks for, as records of a packed store.
//
//   WeightLister lister;
//   RETURN_IF_ERROR(LoadModel(lister, ...).status());         // and the experts
//   std::vector<WeightRecord> records = lister.TakeRecords();
//
// A record is what somebody loads as a whole: a routed expert of a layer, the rest of a layer, or one
// of the tensors outside of layers.
#ifndef ORRERY_MODEL_WEIGHT_LIST_H_
#define ORRERY_MODEL_WEIGHT_LIST_H_

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "model/weight_loader.h"

namespace orrery {

struct WeightRecord {
  std::string key;
  std::vector<WeightItem> items;

  int64_t num_values() const;
};

// "model.layers.3.mlp.experts.7", "model.layers.3", "lm_head.weight": by the name of a tensor.
std::string RecordKeyOf(const std::string& tensor_name);
// The prefix of an expert's tensors, which is the key of its record.
std::string ExpertRecord(int layer, int expert);
// The keys of all that an attention rank loads, in order.
std::vector<std::string> RankRecords(const ModelConfig& config, bool with_mtp);

// Loads nothing: weights are null, buffers empty.
class WeightLister final : public WeightLoader {
 public:
  std::vector<WeightRecord> TakeRecords() { return std::move(records_); }

  absl::StatusOr<std::unique_ptr<Weight>> LoadWeight(const WeightItem& item) override;
  absl::StatusOr<Buffer> LoadVector(const WeightItem& item) override;
  absl::StatusOr<Table> LoadTable(const WeightItem& item) override;
  absl::StatusOr<KvHeadWeights> LoadKvHeads(const WeightItem& item) override;

 private:
  void Add(const WeightItem& item);

  std::vector<WeightRecord> records_;  // in the order of their first items
};

}  // namespace orrery

#endif  // ORRERY_MODEL_WEIGHT_LIST_H_
