#include "tools/check_command.h"

#include <cstdint>
#include <cstdio>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "tools/check/check_golden.h"
#include "tools/check/invariance/check_invariance.h"
#include "tools/flags/command_line.h"
#include "tools/flags/local_flags.h"
#include "tools/flags/seed_flag.h"

ABSL_FLAG(bool, force_routing, false,
          "golden: use the golden choice of experts instead of the gate's");
ABSL_FLAG(bool, full, false,
          "invariance: 200 prompts, and 60 random settings more; a few minutes without");
ABSL_FLAG(int, prompts, 0, "invariance: number of prompts; 0: 40, or 200 with --full");
ABSL_FLAG(int, settings, -1,
          "invariance: random settings behind the covering array; negative: 0, or 60 with --full");
ABSL_FLAG(std::string, setting, "",
          "invariance: only this one, as a row that failed prints it: batch=64,ranks=2");

ABSL_DECLARE_FLAG(int, max_new_tokens);

namespace orrery {
namespace {

constexpr int kPrompts = 40;
constexpr int kFullPrompts = 200;
constexpr int kFullRandomSettings = 60;

int WrongCall(const std::string& message) {
  return Fail("check", absl::InvalidArgumentError(message));
}

absl::StatusOr<CheckModelOptions> GoldenOptions() {
  RETURN_IF_ERROR(
      AllowOnly("check golden",
                {"backend", "cpu_variant", "ffn_products", "ffn_weights", "force_routing", "gpus",
                 "linear_weights", "precision", "ranks", "row_format", "shards", "transport"}));
  ASSIGN_OR_RETURN(LocalClusterOptions cluster, LocalClusterFromFlags(Precision::kF32));
  return CheckModelOptions{.cluster = std::move(cluster),
                           .force_routing = absl::GetFlag(FLAGS_force_routing)};
}

int RunGolden(const std::vector<std::string>& dirs) {
  if (dirs.empty()) {
    return WrongCall("say `orrery check golden DIR...`: each DIR holds a golden.json");
  }
  const absl::StatusOr<CheckModelOptions> options = GoldenOptions();
  if (!options.ok()) return WrongCall(std::string(options.status().message()));
  Report report(stdout);
  for (const std::string& dir : dirs) {
    const absl::Status status = CheckGolden(dir, *options, report);
    if (status.ok()) continue;
    report.Title(dir);
    report.Line(false, "cannot be checked", std::string(status.message()));
  }
  std::printf("%d checks held, %d did not, %d skipped\n", report.num_passed(), report.num_failed(),
              report.num_skipped());
  return report.num_failed() == 0 ? 0 : 1;
}

// The call that asks the same requests of the same model, with the same numbers.
std::string CommandAgain(const InvarianceOptions& options) {
  const LocalClusterOptions& cluster = options.cluster;
  std::string command = absl::StrCat(
      "./orrery check invariance --model=", cluster.model_dir,
      " --precision=", std::string(PrecisionName(cluster.numerics.precision)),
      " --row_format=", std::string(RowFormatName(cluster.numerics.row_format)),
      " --ffn_weights=", std::string(WeightFormatName(cluster.numerics.ffn_weights)),
      " --ffn_products=", std::string(FfnProductsName(cluster.numerics.ffn_products)),
      " --linear_weights=", std::string(WeightFormatName(cluster.numerics.linear_weights)),
      " --prompts=", options.workload.num_prompts, " --seed=", options.workload.seed);
  if (options.workload.max_new_tokens != 0) {
    absl::StrAppend(&command, " --max_new_tokens=", options.workload.max_new_tokens);
  }
  if (cluster.backend == Backend::kReference) absl::StrAppend(&command, " --backend=reference");
  return command;
}

absl::StatusOr<InvarianceOptions> InvarianceOptionsFromFlags() {
  RETURN_IF_ERROR(AllowOnly(
      "check invariance",
      {"backend", "ffn_products", "ffn_weights", "gpus", "linear_weights", "full", "max_new_tokens",
       "model", "precision", "prompts", "row_format", "seed", "setting", "settings"}));
  InvarianceOptions options;
  ASSIGN_OR_RETURN(options.cluster, LocalClusterFromFlags(Precision::kBf16));
  const bool full = absl::GetFlag(FLAGS_full);
  const int num_prompts = absl::GetFlag(FLAGS_prompts);
  if (num_prompts < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--prompts is ", num_prompts, ", must be at least 1"));
  }
  options.workload.num_prompts = num_prompts > 0 ? num_prompts : full ? kFullPrompts : kPrompts;
  options.workload.max_new_tokens = absl::GetFlag(FLAGS_max_new_tokens);
  const int64_t seed = absl::GetFlag(FLAGS_seed);
  if (seed >= 0) options.workload.seed = static_cast<uint64_t>(seed);
  options.settings.seed = options.workload.seed;
  const int num_random = absl::GetFlag(FLAGS_settings);
  options.settings.num_random = num_random >= 0 ? num_random : full ? kFullRandomSettings : 0;
  if (const std::string text = absl::GetFlag(FLAGS_setting); !text.empty()) {
    ASSIGN_OR_RETURN(options.only, ParseSetting(text));
  }
  options.command = CommandAgain(options);
  return options;
}

int RunInvariance(const std::vector<std::string>& rest) {
  if (!rest.empty()) {
    return WrongCall(
        absl::StrCat("`orrery check invariance` takes no argument \"", rest[0], "\"; say --model"));
  }
  const absl::StatusOr<InvarianceOptions> options = InvarianceOptionsFromFlags();
  if (!options.ok()) return WrongCall(std::string(options.status().message()));
  const absl::StatusOr<InvarianceResult> result = CheckInvariance(*options, stdout);
  if (!result.ok()) {
    return Fail("check", result.status());
  }
  if (result->num_failed == 0) {
    std::printf("%d settings x %d prompts: all answers are byte-identical\n", result->num_settings,
                result->num_requests);
    return 0;
  }
  std::printf("%d of %d settings x %d prompts FAILED\n", result->num_failed, result->num_settings,
              result->num_requests);
  return 1;
}

}  // namespace

int RunCheck(const std::vector<std::string>& arguments) {
  const std::string check = arguments.empty() ? "" : arguments[0];
  const std::vector<std::string> rest(arguments.begin() + (arguments.empty() ? 0 : 1),
                                      arguments.end());
  if (check == "golden") return RunGolden(rest);
  if (check == "invariance") return RunInvariance(rest);
  return WrongCall("say `orrery check golden DIR...` or `orrery check invariance`");
}

}  // namespace orrery
