// A golden model case: a checkpoint folder whose golden.json holds what the official code computes
// from it.
//
// Tolerances are those of the goldens' own README: with f32 activations every array, id and expert
// set; with bf16 the logits only (root mean square over the positions whose experts are the golden
// ones; over all when they are forced). The MTP module is run and compared where the golden has it.
#ifndef ORRERY_TOOLS_CHECK_CHECK_MODEL_H_
#define ORRERY_TOOLS_CHECK_CHECK_MODEL_H_

#include "base/status.h"
#include "tools/check/golden_file.h"
#include "tools/check/report.h"
#include "tools/local_cluster.h"

namespace orrery {

struct CheckModelOptions {
  LocalClusterOptions cluster;  // model_dir is filled in
  // Replace the gate's choice by the golden one.
  bool force_routing = false;
};

// Runs the case on every rank of a local cluster, whole, in chunks of 7 and token by token: all
// must agree bit for bit, and the result with the golden. Errors are for what could not be run at
// all.
absl::Status CheckModel(const GoldenFile& golden, const CheckModelOptions& options, Report& report);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_CHECK_MODEL_H_
