// The attention half of a layer: norm, project, append to the cache, attend, project, add.
#ifndef ORRERY_SERVICES_ATTENTION_ATTENTION_LAYER_H_
#define ORRERY_SERVICES_ATTENTION_ATTENTION_LAYER_H_

#include <vector>

#include "base/status.h"
#include "device/device.h"
#include "kernels/kernels.h"
#include "services/attention/kv_cache.h"
#include "services/attention/model.h"

namespace orrery {

// Scratch and verbs for the attention of every layer of one model. Belongs to one step.
class AttentionLayer {
 public:
  // The model must outlive it.
  static absl::StatusOr<AttentionLayer> Create(const Model& model, int max_rows, Device* device);

  // Queues hidden += attention(norm(hidden)); hidden [num_rows, hidden_size], where num_rows is that
  // of the batch or of its shape. out is left as the addend, for probes. layer: of the model, or its
  // MTP module's.
  void Run(const LayerWeights& layer, const RowPlaces& places, const KvCache& cache,
           Kernels& kernels, Matrix hidden);
  // The addend of the last Run, [num_rows, hidden_size].
  ConstMatrix out(int num_rows) const { return View(out_, num_rows, config_->hidden_size); }

 private:
  Matrix View(const Buffer& buffer, int num_rows, int num_cols) const {
    return Matrix(buffer.as<float>(), num_rows, num_cols);
  }
  void RunMla(const LayerWeights& layer, const RowPlaces& places, const KvCache& cache,
              Kernels& kernels, ConstMatrix normed);
  void RunGqa(const LayerWeights& layer, const RowPlaces& places, const KvCache& cache,
              Kernels& kernels, ConstMatrix normed);

  const ModelConfig* config_ = nullptr;
  RopeTable rope_;
  Buffer normed_;   // [max_rows, hidden_size]
  Buffer q_lora_;   // [max_rows, q_lora_rank]
  Buffer q_;        // [max_rows, num_heads * query head]
  Buffer queries_;  // MLA: [max_rows, num_heads * (kv_lora_rank + rope)], what attends to the cache
  Buffer kv_;       // [max_rows, kv_row_width]
  Buffer context_;  // [max_rows, num_heads * value width]
  Buffer values_;   // MLA: [max_rows, num_heads * v_head_dim]
  Buffer out_;      // [max_rows, hidden_size]

  std::vector<AttendArgs> attends_;  // of the layer under way
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_ATTENTION_LAYER_H_
