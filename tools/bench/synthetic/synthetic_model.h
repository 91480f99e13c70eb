// Checkpoints in the shape of a real model, with weights of noise: for measuring without a download.
//
//   ASSIGN_OR_RETURN(SyntheticShape shape, FindSyntheticShape("v3-mini"));
//   RETURN_IF_ERROR(WriteSyntheticModel(shape, "/tmp/v3-mini", ShowBytes));
//
// A whole model directory: config.json, weights in several files with their index, and a tokenizer of
// single bytes, so that every command takes it with --model. The same shape gives the same bytes.
// Not for answers: they are noise, too.
//
// Errors: RESOURCE_EXHAUSTED when the disk has no room, else what the system says, with the path.
#ifndef ORRERY_TOOLS_BENCH_SYNTHETIC_SYNTHETIC_MODEL_H_
#define ORRERY_TOOLS_BENCH_SYNTHETIC_SYNTHETIC_MODEL_H_

#include <cstdint>
#include <functional>
#include <string>

#include "base/status.h"
#include "tools/bench/synthetic/synthetic_shape.h"

namespace orrery {

// Called after each few megabytes.
using BytesDone = std::function<void(int64_t done, int64_t total)>;

// Bytes of the tensors.
int64_t SyntheticModelBytes(const SyntheticShape& shape);

// Makes the directory. One that holds this whole model already is left as it is; a beginning of it is
// written anew.
absl::Status WriteSyntheticModel(const SyntheticShape& shape, const std::string& dir,
                                 const BytesDone& progress = nullptr);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_SYNTHETIC_SYNTHETIC_MODEL_H_
