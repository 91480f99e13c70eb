#include "tools/chaos_command.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/stop_signal.h"
#include "tools/chaos/chaos_run.h"
#include "tools/flags/cluster_flags.h"
#include "tools/flags/command_line.h"
#include "tools/flags/scenario_flags.h"
#include "tools/flags/seed_flag.h"
#include "tools/terminal.h"

ABSL_FLAG(bool, list, false, "say which scenarios there are");
ABSL_FLAG(int, count, 10, "how many faults, one after the other");
ABSL_FLAG(int, streams, 32, "clients at a time");

namespace orrery {
namespace {

void ListScenarios(Terminal& out) {
  for (const ChaosScenario& scenario : ChaosScenarios()) {
    out.Print(absl::StrFormat("  %-16s %s\n", scenario.name, scenario.summary));
  }
}

absl::Status CheckPositive(const std::string& flag, int value, int limit) {
  if (value >= 1 && value <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is ", value, ", not from 1 to ", limit));
}

absl::StatusOr<ChaosOptions> OptionsFromFlags() {
  ChaosOptions options;
  RETURN_IF_ERROR(AllowOnly("chaos", {"list", "scenario", "count", "seed", "streams", "json_file",
                                      "model", "precision", "row_format", "ffn_weights", "threads",
                                      "exchange", "cpu_variant", "bin_dir", "start_timeout"}));
  ASSIGN_OR_RETURN(options.scenario, FindChaosScenario(absl::GetFlag(FLAGS_scenario)));
  RETURN_IF_ERROR(CheckPositive("count", absl::GetFlag(FLAGS_count), 1'000'000));
  RETURN_IF_ERROR(CheckPositive("streams", absl::GetFlag(FLAGS_streams), 1024));
  options.num_faults = absl::GetFlag(FLAGS_count);
  ASSIGN_OR_RETURN(options.victim.topology, TopologyFromFlags());
  ASSIGN_OR_RETURN(options.victim.launch, LaunchOptionsFromFlags());
  options.victim.seed = std::max<int64_t>(absl::GetFlag(FLAGS_seed), 0);
  options.victim.num_streams = absl::GetFlag(FLAGS_streams);
  return options;
}

absl::Status WriteReport(const ChaosReport& report) {
  const std::string path = absl::GetFlag(FLAGS_json_file);
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << ReportJson(report);
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

// Whether all was as it should be.
absl::StatusOr<bool> Chaos(Terminal& out) {
  ASSIGN_OR_RETURN(ChaosOptions options, OptionsFromFlags());
  StopSignal stop;
  bool was_asked_to_stop = false;
  options.victim.should_stop = [&] {
    was_asked_to_stop = was_asked_to_stop || stop.WaitFor(absl::ZeroDuration());
    return was_asked_to_stop;
  };
  options.on_fault = [&](int fault, const std::string& what, absl::Duration pause) {
    out.Print(absl::StrFormat("%4d/%d  %s: longest pause of a stream %.2f s\n", fault + 1,
                              options.num_faults, what, absl::ToDoubleSeconds(pause)));
  };
  out.Print(options.scenario.name, ": ", options.scenario.summary, "\n");
  ASSIGN_OR_RETURN(const ChaosReport report, RunChaos(options));
  out.Print(ReportText(report));
  RETURN_IF_ERROR(WriteReport(report));
  return report.all_well() && report.is_in_time();
}

}  // namespace

int RunChaosCommand(const std::vector<std::string>&) {
  Terminal out(stdout);
  if (absl::GetFlag(FLAGS_list)) {
    ListScenarios(out);
    return 0;
  }
  const absl::StatusOr<bool> went_well = Chaos(out);
  if (went_well.ok()) return *went_well ? 0 : 1;
  return Fail("chaos", went_well.status());
}

}  // namespace orrery
