// Makes the packed store of a model from its checkpoint.
//
//   RETURN_IF_ERROR(PackModel(records, options));              // records: weight_list.h
//
// Several threads make the images of one record each; records are written in order, so that the same
// model gives the same bytes. Interrupted, it goes on where it was.
//
// Errors: those of Checkpoint and StoreWriter; ABORTED if the files changed meanwhile.
#ifndef ORRERY_MODEL_PACKING_H_
#define ORRERY_MODEL_PACKING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "checkpoint/store/store_index.h"
#include "model/numerics.h"
#include "model/weight_list.h"

namespace orrery {

// In values of the model.
struct PackProgress {
  int64_t done = 0;
  int64_t kept = 0;  // of those, what was there already
  int64_t total = 0;
};

struct PackOptions {
  std::string model_dir;
  std::string store_dir;
  Numerics numerics;
  std::string numerics_id;
  int num_threads = 1;
  // One for each thread.
  std::function<absl::StatusOr<std::unique_ptr<Kernels>>()> make_kernels;
  // In host memory.
  Device* device = nullptr;
  // After each record. Any thread, one at a time.
  std::function<void(const PackProgress&)> progress;
};

absl::Status PackModel(const std::vector<WeightRecord>& records, const ModelConfig& config,
                       const PackOptions& options);

}  // namespace orrery

#endif  // ORRERY_MODEL_PACKING_H_
