// Which scenario of a command, and where its result goes. List kScenarioFlags among the flag files of a
// command with scenarios.
#ifndef ORRERY_TOOLS_FLAGS_SCENARIO_FLAGS_H_
#define ORRERY_TOOLS_FLAGS_SCENARIO_FLAGS_H_

#include <string>

#include "absl/flags/declare.h"

ABSL_DECLARE_FLAG(std::string, scenario);
ABSL_DECLARE_FLAG(std::string, json_file);

namespace orrery {

inline constexpr char kScenarioFlags[] = "tools/flags/scenario_flags.cc";

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_SCENARIO_FLAGS_H_
