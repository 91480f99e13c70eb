#include "model/weight_loader.h"

namespace orrery {

absl::StatusOr<FeedForwardWeights> WeightLoader::FeedForward(const std::string& prefix, int hidden,
                                                             int width) {
  const auto load = [&](const char* part, int num_outputs, int num_inputs) {
    return LoadWeight(
        {WeightItem::Kind::kFeedForward, prefix + part + ".weight", num_outputs, num_inputs, {}});
  };
  FeedForwardWeights weights;
  ASSIGN_OR_RETURN(weights.gate, load(".gate_proj", width, hidden));
  ASSIGN_OR_RETURN(weights.up, load(".up_proj", width, hidden));
  ASSIGN_OR_RETURN(weights.down, load(".down_proj", hidden, width));
  return weights;
}

}  // namespace orrery
