// `orrery check invariance`: the same requests through many settings, every answer compared with
// that of the plain setting, as bytes.
//
//   options.cluster.model_dir = dir;
//   ASSIGN_OR_RETURN(InvarianceResult result, CheckInvariance(options, stdout));
//   return result.num_failed == 0;
//
// A row per setting as it ends; below a row that failed, the first difference and the command that
// runs this setting alone. A dimension that model or machine do not have is reported as skipped.
#ifndef ORRERY_TOOLS_CHECK_INVARIANCE_CHECK_INVARIANCE_H_
#define ORRERY_TOOLS_CHECK_INVARIANCE_CHECK_INVARIANCE_H_

#include <cstdio>
#include <optional>
#include <string>

#include "base/status.h"
#include "tools/check/invariance/setting.h"
#include "tools/check/invariance/workload.h"
#include "tools/local_cluster.h"

namespace orrery {

struct InvarianceOptions {
  // Model, numerics and backend; what the settings vary is filled in.
  LocalClusterOptions cluster;
  WorkloadOptions workload;
  SettingChoice settings;
  std::optional<Setting> only;  // instead of a choice
  // What runs the check again with the same requests, without --setting.
  std::string command = "./orrery check invariance";
};

struct InvarianceResult {
  int num_settings = 0;  // the plain ones included
  int num_failed = 0;
  int num_requests = 0;
};

// Prints to `out`. Errors are for what could not be run at all: a model that cannot be read, a
// setting that model or machine do not admit, a plain run that has no answer.
absl::StatusOr<InvarianceResult> CheckInvariance(const InvarianceOptions& options, std::FILE* out);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_INVARIANCE_CHECK_INVARIANCE_H_
