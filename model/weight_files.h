// Where a member's weights come from: the model's packed store, if it has one for these numerics,
// else its checkpoint.
//
//   ASSIGN_OR_RETURN(WeightFiles files, WeightFiles::Open(model_dir, numerics_id));
//   std::unique_ptr<WeightLoader> loader = files.MakeLoader(...);
//   ASSIGN_OR_RETURN(Fingerprint fingerprint, files.ComputeFingerprint(scope));
//
// A store lies in DIR/packed/NUMERICS (`orrery pack` puts it there), and is used without being asked
// for, or refused: one that was made from other files, for other numerics, or by another version is
// an error that says what to do, and never passed over in silence. With a store the safetensors files
// may be missing. Without one for these numerics, but with one for others, a warning says so.
//
// Errors: FAILED_PRECONDITION for a store of something else, with both values; those of PackedStore
// and Checkpoint.
// Threads: as Checkpoint.
#ifndef ORRERY_MODEL_WEIGHT_FILES_H_
#define ORRERY_MODEL_WEIGHT_FILES_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/fingerprint.h"
#include "checkpoint/model_config.h"
#include "checkpoint/store/packed_store.h"
#include "model/numerics.h"
#include "model/weight_bytes.h"
#include "model/weight_loader.h"

namespace orrery {

// Where the store of a model for a numerics id lies.
std::string PackedStoreDir(const std::string& model_dir, const std::string& numerics_id);

// What a store of this model for these numerics is made from. Reads samples of the files.
absl::StatusOr<StoreIdentity> ModelIdentity(const std::string& model_dir,
                                            const Checkpoint& checkpoint,
                                            const std::string& numerics_id);

// OK if the store is of the model in this directory and for these numerics.
absl::Status CheckPackedStore(const PackedStore& store, const std::string& model_dir,
                              const std::string& numerics_id);

class WeightFiles {
 public:
  static absl::StatusOr<WeightFiles> Open(const std::string& model_dir,
                                          const std::string& numerics_id);
  // Whatever stores there are.
  static absl::StatusOr<WeightFiles> OpenCheckpoint(const std::string& model_dir);

  // "packed store DIR", "checkpoint DIR".
  std::string Describe() const;
  const PackedStore* store() const { return store_.has_value() ? &*store_ : nullptr; }

  // Files of the model that its folder lacks; none for a store, which has everything.
  std::vector<std::string> MissingFiles() const;

  // What items take of a device's memory: as the checkpoint's tensors will be held, or as they lie in the store.
  // This, config and kernels must outlive the answer.
  ItemBytes item_bytes(const ModelConfig& config, const Numerics& numerics,
                       const Kernels& kernels) const;
  // Everything, this too, must outlive the loader.
  std::unique_ptr<WeightLoader> MakeLoader(const ModelConfig* config, Kernels* kernels,
                                           Device* device, const Numerics& numerics,
                                           std::atomic<int64_t>* loaded_bytes) const;

  // That of the checkpoint. A store remembers it, for all files whatever the scope.
  absl::StatusOr<Fingerprint> ComputeFingerprint(FingerprintScope scope) const;

 private:
  explicit WeightFiles(std::string model_dir) : model_dir_(std::move(model_dir)) {}

  std::string model_dir_;
  std::optional<Checkpoint> checkpoint_;  // one of the two
  std::optional<PackedStore> store_;
};

}  // namespace orrery

#endif  // ORRERY_MODEL_WEIGHT_FILES_H_
