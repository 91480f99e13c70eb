// A model directory, packed.
//
//   ASSIGN_OR_RETURN(PackedModel packed, PackModelDir({.model_dir = dir, ...}, progress));
//
// The store goes to OUT/packed/NUMERICS. An OUT that is not the model's own directory gets copies of
// the small files too (configuration, tokenizer, template), and is a model directory by itself then,
// without the safetensors.
//
// Errors: those of model/packing.h, with the path.
#ifndef ORRERY_TOOLS_PACK_PACK_MODEL_H_
#define ORRERY_TOOLS_PACK_PACK_MODEL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/factory/make_kernels.h"
#include "model/numerics.h"
#include "model/packing.h"
#include "model/weight_list.h"

namespace orrery {

struct PackModelOptions {
  std::string model_dir;
  std::string out_dir;  // empty: the model's
  Backend backend = Backend::kCpu;
  CpuVariant cpu_variant = CpuVariant::kBest;
  Numerics numerics = {};
  int num_threads = 1;
};

struct PackedModel {
  std::string store_dir;
  int64_t num_bytes = 0;
  bool was_there = false;  // whole and up to date before
};

// Everything that ranks and shards of this model may load, its MTP module included.
absl::StatusOr<std::vector<WeightRecord>> ListModel(const ModelConfig& config);

absl::StatusOr<PackedModel> PackModelDir(const PackModelOptions& options,
                                         const std::function<void(const PackProgress&)>& progress);

// Reads all of a store, and checks it. Bytes read are added to *num_bytes.
absl::Status VerifyPackedStore(const std::string& store_dir, std::atomic<int64_t>* num_bytes);

}  // namespace orrery

#endif  // ORRERY_TOOLS_PACK_PACK_MODEL_H_
