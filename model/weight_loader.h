// Weights of a model in the memory and layout that kernels compute with, by the names that they have
// in checkpoints; wherever they come from.
//
//   std::unique_ptr<WeightLoader> loader = files.MakeLoader(...);                // weight_files.h
//   loader->Expect(RankRecords(config, with_mtp));
//   ASSIGN_OR_RETURN(auto q_a, loader->Linear("model.layers.0.self_attn.q_a_proj", q_lora_rank, hidden_size));
//
// Loading asks for items, one after the other; implementations make them of a checkpoint's tensors
// (checkpoint_loader.h), view them in a packed store (store_loader.h), or only write down what was
// asked for (weight_list.h), which is how a store knows what a model consists of.
//
// Threads: one loader belongs to one thread. Errors: those of the implementation, with the item.
#ifndef ORRERY_MODEL_WEIGHT_LOADER_H_
#define ORRERY_MODEL_WEIGHT_LOADER_H_

#include <memory>
#include <string>
#include <vector>

#include "base/dtypes.h"
#include "base/status.h"
#include "device/device.h"
#include "kernels/kernels.h"

namespace orrery {

// A SwiGLU feed-forward: down(silu(gate(x)) * up(x)).
struct FeedForwardWeights {
  std::unique_ptr<Weight> gate;
  std::unique_ptr<Weight> up;
  std::unique_ptr<Weight> down;
};

// A row-major table in device memory, in the dtype of the checkpoint (f32 or bf16). Read only.
struct Table {
  DType dtype = DType::kF32;
  Buffer data;
};

// kv_b_proj of absorbed attention: per head the part that makes keys, transposed to be folded into the
// query, and the part that makes values, applied after the sum.
struct KvHeadWeights {
  std::vector<std::unique_ptr<Weight>> key_up;    // [kv_lora_rank, key_dim] each, W_UK transposed
  std::vector<std::unique_ptr<Weight>> value_up;  // [value_dim, kv_lora_rank] each, W_UV
};
struct KvHeadShape {
  int num_heads = 0;
  int key_dim = 0;  // without the part that rotates
  int value_dim = 0;
  int kv_lora_rank = 0;
};

// What is loaded by one call.
struct WeightItem {
  enum class Kind {
    kLinear,       // a matrix, held as numerics.linear_weights says
    kLinearF32,    // the same, but multiplied with f32 activations whatever the precision: the gate
    kFeedForward,  // a matrix of a feed-forward, held as numerics.ffn_weights and multiplied as numerics.ffn_products say
    kVector,       // f32; rows: its size
    kTable,        // rows to look up
    kKvHeads,
  };
  Kind kind = Kind::kLinear;
  std::string name;  // of the tensor
  int num_rows = 0;
  int num_cols = 0;
  KvHeadShape heads;  // kKvHeads
};

class WeightLoader {
 public:
  virtual ~WeightLoader() = default;

  // The records (weight_list.h) that will be asked for, in that order: a hint to read ahead.
  virtual void Expect(const std::vector<std::string>& records) {}

  // NAME.weight, [num_outputs, num_inputs].
  absl::StatusOr<std::unique_ptr<Weight>> Linear(const std::string& name, int num_outputs,
                                                 int num_inputs) {
    return LoadWeight({WeightItem::Kind::kLinear, name + ".weight", num_outputs, num_inputs, {}});
  }
  absl::StatusOr<std::unique_ptr<Weight>> LinearF32(const std::string& name, int num_outputs,
                                                    int num_inputs) {
    return LoadWeight(
        {WeightItem::Kind::kLinearF32, name + ".weight", num_outputs, num_inputs, {}});
  }
  // gate_proj, up_proj and down_proj under a prefix like "model.layers.3.mlp.experts.7".
  absl::StatusOr<FeedForwardWeights> FeedForward(const std::string& prefix, int hidden, int width);
  // NAME as f32 in device memory.
  absl::StatusOr<Buffer> Vector(const std::string& name, int size) {
    return LoadVector({WeightItem::Kind::kVector, name, size, 1, {}});
  }
  // NAME.weight, [num_rows, width].
  absl::StatusOr<Table> Rows(const std::string& name, int num_rows, int width) {
    return LoadTable({WeightItem::Kind::kTable, name + ".weight", num_rows, width, {}});
  }
  // NAME.weight, whose rows are head-major, each head [keys | values].
  absl::StatusOr<KvHeadWeights> KvHeads(const std::string& name, const KvHeadShape& shape) {
    return LoadKvHeads({WeightItem::Kind::kKvHeads, name + ".weight",
                        shape.num_heads * (shape.key_dim + shape.value_dim), shape.kv_lora_rank,
                        shape});
  }

  virtual absl::StatusOr<std::unique_ptr<Weight>> LoadWeight(const WeightItem& item) = 0;
  virtual absl::StatusOr<Buffer> LoadVector(const WeightItem& item) = 0;
  virtual absl::StatusOr<Table> LoadTable(const WeightItem& item) = 0;
  virtual absl::StatusOr<KvHeadWeights> LoadKvHeads(const WeightItem& item) = 0;
};

}  // namespace orrery

#endif  // ORRERY_MODEL_WEIGHT_LOADER_H_
