// The weights of one attention rank: everything of the model but its routed experts.
//
//   ASSIGN_OR_RETURN(Model model,
//                    LoadModel(files, config, options, &kernels, &device, &progress));
//
// Loaded once, read only afterwards.
#ifndef ORRERY_SERVICES_ATTENTION_MODEL_H_
#define ORRERY_SERVICES_ATTENTION_MODEL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "checkpoint/model_config.h"
#include "device/device.h"
#include "kernels/kernels.h"
#include "model/numerics.h"
#include "model/weight_files.h"
#include "model/weight_loader.h"

namespace orrery {

// Multi-head latent attention in its absorbed form: kv_b_proj is split per head into the part that
// makes keys, folded into the query, and the part that makes values, applied after the sum.
struct MlaWeights {
  std::unique_ptr<Weight> q_a;  // null when the model has a single q projection
  Buffer q_a_norm;              // [q_lora_rank]
  std::unique_ptr<Weight> q;    // q_b_proj, or q_proj; outputs head-major [nope | rope]
  std::unique_ptr<Weight> kv_a;
  Buffer kv_a_norm;    // [kv_lora_rank]
  KvHeadWeights kv_b;  // per head
  std::unique_ptr<Weight> output;
};

// Grouped-query attention of the dense models.
struct GqaWeights {
  std::unique_ptr<Weight> q, k, v, output;
  Buffer q_bias, k_bias, v_bias;  // empty when the model has none
};

// The part of a MoE layer that every rank keeps: the gate and the shared expert.
struct MoeWeights {
  std::unique_ptr<Weight> gate;  // f32 products
  Buffer bias;                   // [num_experts], empty when the model has none
  std::optional<FeedForwardWeights> shared;
};

struct LayerWeights {
  int index = 0;  // of its cache, and in what shards are asked for
  // Its rows begin at this position: nothing stands in its cache before.
  int begin_position = 0;
  Buffer attention_norm;     // [hidden]
  Buffer feed_forward_norm;  // [hidden]
  std::optional<MlaWeights> mla;
  std::optional<GqaWeights> gqa;
  std::optional<FeedForwardWeights> dense;
  std::optional<MoeWeights> moe;
};

// The module for multi-token prediction: a decoder layer of its own, between the model's embedding
// and head. What goes in and comes out: MtpBatch in batch.h.
struct MtpWeights {
  Buffer embedding_norm;         // [hidden] enorm
  Buffer hidden_norm;            // [hidden] hnorm
  std::unique_ptr<Weight> join;  // eh_proj, [hidden, 2 * hidden]: inputs [embedding | hidden]
  LayerWeights layer;            // index num_layers, rows from position 1
  Buffer output_norm;            // [hidden] shared_head.norm
};

struct Model {
  ModelConfig config;
  Numerics numerics;
  Table embedding;  // [vocab_size, hidden]
  std::vector<LayerWeights> layers;
  std::optional<MtpWeights> mtp;  // if asked for
  Buffer final_norm;              // [hidden]
  std::unique_ptr<Weight> head;   // [vocab_size, hidden]
  Buffer rope_cos, rope_sin;      // [max_positions, rope.dim / 2]
  RopeTable rope;
};

struct ModelOptions {
  Numerics numerics;
  int max_positions = 0;  // longest sequence that will run
  // Also load the MTP module. Of several the first: it drafts further by running on its own output.
  bool with_mtp = false;
};

// Errors: those of the files, with file and tensor; FAILED_PRECONDITION when the checkpoint has no MTP
// module and one is asked for.
absl::StatusOr<Model> LoadModel(const WeightFiles& files, const ModelConfig& config,
                                const ModelOptions& options, Kernels* kernels, Device* device,
                                std::atomic<int64_t>* loaded_bytes);
// The same by a loader, which may also just list what is loaded.
absl::StatusOr<Model> LoadModel(WeightLoader& loader, const ModelConfig& config,
                                const ModelOptions& options, Device* device);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_MODEL_H_
