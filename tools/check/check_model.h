// A golden model case (golden_run.h) on a local cluster.
#ifndef ORRERY_TOOLS_CHECK_CHECK_MODEL_H_
#define ORRERY_TOOLS_CHECK_CHECK_MODEL_H_

#include "base/status.h"
#include "tools/check/golden_file.h"
#include "tools/check/golden_run.h"
#include "tools/check/report.h"
#include "tools/local_cluster.h"

namespace orrery {

struct CheckModelOptions {
  LocalClusterOptions cluster;  // model_dir is filled in
  // Replace the gate's choice by the golden one.
  bool force_routing = false;
};

// Errors: those of GoldenRun and LocalCluster.
absl::Status CheckModel(const GoldenFile& golden, const CheckModelOptions& options, Report& report);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_CHECK_MODEL_H_
