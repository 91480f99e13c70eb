// Tensors of a checkpoint into the memory and layout that kernels compute with.
//
//   WeightLoader loader(&checkpoint, &config, &kernels, &device, numerics,
//                       &loaded_bytes);
//   ASSIGN_OR_RETURN(auto q_a, loader.Linear("model.layers.0.self_attn.q_a_proj", q_lora_rank, hidden_size));
//
// fp8 tensors take their scales from NAME.weight_scale_inv, wherever the index says it lies. No
// weight is rounded on the way: a tensor stored as f32 or f16 multiplies in f32, whatever the
// precision of the cluster, unless numerics.ffn_weights asks for it. (The one exception is the dequantised fp8 kv_b_proj of absorbed
// attention, which becomes bf16 as in the published code.)
//
// Threads: one loader belongs to one thread. Errors: those of Checkpoint, with file and tensor.
#ifndef ORRERY_MODEL_WEIGHT_LOADER_H_
#define ORRERY_MODEL_WEIGHT_LOADER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "device/device.h"
#include "kernels/kernels.h"
#include "model/numerics.h"

namespace orrery {

// A SwiGLU feed-forward: down(silu(gate(x)) * up(x)).
struct FeedForwardWeights {
  std::unique_ptr<Weight> gate;
  std::unique_ptr<Weight> up;
  std::unique_ptr<Weight> down;
};

// A row-major table in device memory, in the dtype of the checkpoint (f32 or bf16).
struct Table {
  DType dtype = DType::kF32;
  Buffer data;
};

// A matrix in host memory, row major, and the format that its products should have.
struct HostMatrix {
  std::vector<float> values;
  ProductFormat format = ProductFormat::kF32;
};

class WeightLoader {
 public:
  // Everything must outlive the loader. Loaded bytes are added to *loaded_bytes, which other
  // threads may read.
  WeightLoader(const Checkpoint* checkpoint, const ModelConfig* config, Kernels* kernels,
               Device* device, const Numerics& numerics, std::atomic<int64_t>* loaded_bytes)
      : checkpoint_(checkpoint),
        config_(config),
        kernels_(kernels),
        device_(device),
        numerics_(numerics),
        loaded_bytes_(loaded_bytes) {}

  // NAME.weight, [num_outputs, num_inputs], held as stored.
  absl::StatusOr<std::unique_ptr<Weight>> Linear(const std::string& name, int num_outputs,
                                                 int num_inputs);
  // The same, but multiplied with f32 activations whatever the precision: the gate.
  absl::StatusOr<std::unique_ptr<Weight>> LinearF32(const std::string& name, int num_outputs,
                                                    int num_inputs);
  // gate_proj, up_proj and down_proj under a prefix like "model.layers.3.mlp.experts.7", held as
  // numerics.ffn_weights says.
  absl::StatusOr<FeedForwardWeights> FeedForward(const std::string& prefix, int hidden, int width);
  // NAME as f32 in device memory.
  absl::StatusOr<Buffer> Vector(const std::string& name, int size);
  // NAME.weight, [num_rows, width].
  absl::StatusOr<Table> Rows(const std::string& name, int num_rows, int width);
  // NAME.weight on the host, scales applied; parts of it become weights by FromValues.
  absl::StatusOr<HostMatrix> Dequantized(const std::string& name, int num_outputs, int num_inputs);
  absl::StatusOr<std::unique_ptr<Weight>> FromValues(const float* values, int num_outputs,
                                                     int num_inputs, ProductFormat format);

 private:
  struct Tensor {
    WeightSource source;
    std::vector<float> scales;  // backs source.scales
  };
  absl::StatusOr<Tensor> Read(const std::string& name, int num_outputs, int num_inputs);
  // The cluster's format, or f32 for a tensor that bf16 cannot hold.
  ProductFormat FormatFor(DType stored) const;
  absl::StatusOr<std::unique_ptr<Weight>> Make(const std::string& name, const WeightSource& source,
                                               ProductFormat format, WeightFormat held);

  const Checkpoint* checkpoint_;
  const ModelConfig* config_;
  Kernels* kernels_;
  Device* device_;
  Numerics numerics_;
  std::atomic<int64_t>* loaded_bytes_;
};

}  // namespace orrery

#endif  // ORRERY_MODEL_WEIGHT_LOADER_H_
