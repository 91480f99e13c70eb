// Weights made of the tensors of a checkpoint.
//
// fp8 tensors take their scales from NAME.weight_scale_inv, wherever the index says it lies. No
// weight is rounded on the way: a tensor stored as f32 or f16 multiplies in f32, whatever the
// precision of the cluster, unless numerics asks for weights of fewer bits. (The one exception is the
// dequantised fp8 kv_b_proj of absorbed attention, which becomes bf16 as in the published code.)
//
// Threads: one loader belongs to one thread; several may share a checkpoint. Errors: those of
// Checkpoint, with file and tensor.
#ifndef ORRERY_MODEL_CHECKPOINT_LOADER_H_
#define ORRERY_MODEL_CHECKPOINT_LOADER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "model/numerics.h"
#include "model/weight_loader.h"

namespace orrery {

class CheckpointLoader final : public WeightLoader {
 public:
  // Everything must outlive the loader. Loaded bytes are added to *loaded_bytes, which other
  // threads may read.
  CheckpointLoader(const Checkpoint* checkpoint, const ModelConfig* config, Kernels* kernels,
                   Device* device, const Numerics& numerics, std::atomic<int64_t>* loaded_bytes)
      : checkpoint_(checkpoint),
        config_(config),
        kernels_(kernels),
        device_(device),
        numerics_(numerics),
        loaded_bytes_(loaded_bytes) {}

  absl::StatusOr<std::unique_ptr<Weight>> LoadWeight(const WeightItem& item) override;
  absl::StatusOr<Buffer> LoadVector(const WeightItem& item) override;
  absl::StatusOr<Table> LoadTable(const WeightItem& item) override;
  absl::StatusOr<KvHeadWeights> LoadKvHeads(const WeightItem& item) override;

  // A matrix in host memory, row major, scales applied.
  struct HostMatrix {
    std::vector<float> values;
    ProductFormat format = ProductFormat::kF32;  // that its products should have
  };
  absl::StatusOr<HostMatrix> Dequantized(const WeightItem& item);

 private:
  struct Tensor {
    TensorView view;
    WeightSource source;
    std::vector<float> scales;  // backs source.scales
  };
  absl::StatusOr<Tensor> Read(const WeightItem& item);
  // The cluster's format, or f32 for a tensor that bf16 cannot hold.
  absl::StatusOr<std::unique_ptr<Weight>> FromValues(const float* values, int num_outputs,
                                                     int num_inputs, ProductFormat format);

  const Checkpoint* checkpoint_;
  const ModelConfig* config_;
  Kernels* kernels_;
  Device* device_;
  Numerics numerics_;
  std::atomic<int64_t>* loaded_bytes_;
};

}  // namespace orrery

#endif  // ORRERY_MODEL_CHECKPOINT_LOADER_H_
