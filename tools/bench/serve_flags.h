// The flags of `orrery bench serve`, and the load that they describe. List kServeFlags among the
// flag files of the command.
#ifndef ORRERY_TOOLS_BENCH_SERVE_FLAGS_H_
#define ORRERY_TOOLS_BENCH_SERVE_FLAGS_H_

#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "base/status.h"
#include "tools/bench/phase.h"
#include "tools/bench/scenarios.h"

ABSL_DECLARE_FLAG(std::string, compare);

namespace orrery {

inline constexpr char kServeFlags[] = "tools/bench/serve_flags.cc";

// INVALID_ARGUMENT for flags that contradict each other, or that a scenario does not take.
absl::StatusOr<Phase> PhaseFromFlags();
absl::StatusOr<ScenarioOptions> ScenarioOptionsFromFlags(const Scenario& scenario);

// "orrery bench serve --rate=4": the flags of these files that are not as they come. For a shell to
// run again.
std::string CommandFromFlags(const std::vector<std::string>& flag_files,
                             const std::string& command = "orrery bench serve");

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_SERVE_FLAGS_H_
