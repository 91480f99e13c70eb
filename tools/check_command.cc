#include "tools/check_command.h"

#include <cstdio>

#include "absl/flags/flag.h"
#include "tools/check/check_golden.h"
#include "tools/flags/local_flags.h"

ABSL_FLAG(bool, force_routing, false, "use the golden choice of experts instead of the gate's");

namespace orrery {

int RunCheck(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2 || arguments[0] != "golden") {
    std::fprintf(stderr,
                 "orrery: say `orrery check golden DIR...`: each DIR holds a golden.json\n");
    return 2;
  }
  const absl::StatusOr<LocalClusterOptions> cluster = LocalClusterFromFlags(Precision::kF32);
  if (!cluster.ok()) {
    std::fprintf(stderr, "orrery: %s\n", std::string(cluster.status().message()).c_str());
    return 2;
  }
  const CheckModelOptions options = {.cluster = *cluster,
                                     .force_routing = absl::GetFlag(FLAGS_force_routing)};
  Report report(stdout);
  for (size_t i = 1; i < arguments.size(); ++i) {
    const absl::Status status = CheckGolden(arguments[i], options, report);
    if (status.ok()) continue;
    report.Title(arguments[i]);
    report.Line(false, "cannot be checked", std::string(status.message()));
  }
  std::printf("%d checks held, %d did not, %d skipped\n", report.num_passed(), report.num_failed(),
              report.num_skipped());
  return report.num_failed() == 0 ? 0 : 1;
}

}  // namespace orrery
