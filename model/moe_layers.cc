#include "model/moe_layers.h"

namespace orrery {

bool IsMoeLayer(const ModelConfig& config, int layer) {
  return layer < config.num_layers ? config.is_moe_layer(layer) : config.num_experts > 0;
}

std::vector<int> MoeLayers(const ModelConfig& config, bool with_mtp) {
  std::vector<int> layers;
  for (int layer = 0; layer < config.num_layers + (with_mtp ? 1 : 0); ++layer) {
    if (IsMoeLayer(config, layer)) layers.push_back(layer);
  }
  return layers;
}

}  // namespace orrery
