// The tensors of a Hugging Face style model directory: safetensors files, single or sharded with an
// index.
//
//   ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(dir));
//   ASSIGN_OR_RETURN(TensorView gate,
//                    checkpoint.Tensor("model.layers.3.mlp.gate.weight", {256, 7168}));
//
// Files are mapped when one of their tensors is first asked for, so a process needs only the files
// that hold its own tensors: an expert shard starts from a directory from which all others are
// missing. model.safetensors is taken before model.safetensors.index.json if both are there, as
// transformers does.
//
// Errors: NOT_FOUND (file or tensor, with both names), INVALID_ARGUMENT (wrong shape or dtype, with
// both), DATA_LOSS (truncated file, header longer than the file, overlapping or out-of-range
// offsets, NaN or infinite weights), always with file and tensor. Nothing aborts.
// Threads: safe for concurrent use after Open().
#ifndef ORRERY_CHECKPOINT_CHECKPOINT_H_
#define ORRERY_CHECKPOINT_CHECKPOINT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/dtypes.h"
#include "base/status.h"
#include "checkpoint/fingerprint.h"
#include "checkpoint/safetensors.h"

namespace orrery {

// Names the files of a checkpoint that has several.
inline constexpr char kTensorIndexFile[] = "model.safetensors.index.json";

// Which weights files a fingerprint covers.
enum class FingerprintScope {
  kOpenedFiles,   // those that hold tensors asked for so far
  kPresentFiles,  // every file of the index that is in the directory
};

class Checkpoint {
 public:
  static absl::StatusOr<Checkpoint> Open(const std::string& model_dir);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  bool Has(const std::string& name) const;
  // Names of the weights files, there or not.
  std::vector<std::string> files() const;
  // As it is stored. Only its file's header is read.
  absl::StatusOr<DType> DTypeOf(const std::string& name) const;
  // The tensor, mapped; its shape must be `shape`. Values are checked, which reads all of them: a
  // NaN or an infinity is DATA_LOSS. The view is valid while the checkpoint lives. An fp8 weight
  // X.weight has its scales in X.weight_scale_inv, f32 [ceil(outputs / block), ceil(inputs /
  // block)], possibly in another file.
  absl::StatusOr<TensorView> Tensor(const std::string& name,
                                    const std::vector<int64_t>& shape) const;

  // Content hashes of the configuration and of weights files: see fingerprint.h. Reads each file
  // once, whole.
  absl::StatusOr<Fingerprint> ComputeFingerprint(FingerprintScope scope) const;

 private:
  struct Impl;
  explicit Checkpoint(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_CHECKPOINT_H_
