// All requests of a workload through one setting: engines on the ranks of a cluster, their answers,
// and whether the setting did what it says.
//
//   ASSIGN_OR_RETURN(SettingRun run, RunSetting(*cluster, workload, setting, seed));
//
// The ranks run at the same time, each with a share of the requests, over the same shards.
#ifndef ORRERY_TOOLS_CHECK_INVARIANCE_RUN_SETTING_H_
#define ORRERY_TOOLS_CHECK_INVARIANCE_RUN_SETTING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "services/attention/engine.h"
#include "tools/check/invariance/answer_record.h"
#include "tools/check/invariance/setting.h"
#include "tools/check/invariance/workload.h"
#include "tools/local_cluster.h"

namespace orrery {

struct SettingRun {
  // By pass and request. A warm prefix cache takes a pass to warm it, which counts as well.
  std::vector<std::vector<absl::StatusOr<AnswerRecord>>> passes;
  // What the setting should have brought about and did not ("nothing was preempted"), or left
  // behind ("3 cache blocks are not free"); empty if all is well.
  std::vector<std::string> faults;
  std::vector<EngineLoad> loads;  // by rank, at the end
};

// The cluster has the setting's ranks, shards, transport and variant; `seed` orders the requests
// where they are permuted. Errors: engines that cannot be started.
absl::StatusOr<SettingRun> RunSetting(const LocalCluster& cluster, const Workload& workload,
                                      const Setting& setting, uint64_t seed);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_INVARIANCE_RUN_SETTING_H_
