// Which layers of what runs are MoE layers: one answer for ranks, which ask for their experts, and
// for shards, which load them.
//
//   MoeLayers(config, /*with_mtp=*/true)   ->  3, 4, ... 60, and 61, the MTP module's (DeepSeek-V3)
//
// The first MTP module counts as layer num_layers, as in the names of its tensors.
#ifndef ORRERY_MODEL_MOE_LAYERS_H_
#define ORRERY_MODEL_MOE_LAYERS_H_

#include <vector>

#include "checkpoint/model_config.h"

namespace orrery {

// layer: of the model, or num_layers for the first MTP module, which is a MoE layer wherever the
// model has experts.
bool IsMoeLayer(const ModelConfig& config, int layer);

// Ascending; empty for a dense model.
std::vector<int> MoeLayers(const ModelConfig& config, bool with_mtp);

}  // namespace orrery

#endif  // ORRERY_MODEL_MOE_LAYERS_H_
