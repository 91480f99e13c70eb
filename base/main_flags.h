// The command line of a program whose flags are those of its main.cc.
//
//   ABSL_FLAG(std::string, cluster, "", "the cluster file");
//   int main(int argc, char** argv) {
//     ParseMainFlags("one shard of routed experts: --cluster=FILE --name=NAME", argc, argv);
//
// --help shows them, which by itself Abseil does for files named after the program only.
// A flag that there is not ends the process, with its name and exit code 1.
// Threads: call once, before threads start.
#ifndef ORRERY_BASE_MAIN_FLAGS_H_
#define ORRERY_BASE_MAIN_FLAGS_H_

#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace orrery {

inline void ParseMainFlags(absl::string_view usage, int argc, char** argv) {
  absl::SetProgramUsageMessage(usage);
  absl::FlagsUsageConfig config;
  config.contains_help_flags = [](absl::string_view file) {
    return absl::EndsWith(file, "/main.cc");
  };
  absl::SetFlagsUsageConfig(config);
  absl::ParseCommandLine(argc, argv);
}

}  // namespace orrery

#endif  // ORRERY_BASE_MAIN_FLAGS_H_
