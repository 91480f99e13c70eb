#include "tools/bench/serve_flags.h"

#include <algorithm>
#include <map>

#include "absl/algorithm/container.h"
#include "absl/flags/commandlineflag.h"
#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "tools/flags/scenario_flags.h"

ABSL_FLAG(int, concurrency, 0,
          "closed loop: so many clients, each of which sends its next request when its last answer "
          "has ended; without --rate: 8");
ABSL_FLAG(double, rate, 0.0, "open loop: requests per second, whether or not others were answered");
ABSL_FLAG(std::string, arrivals, "poisson", "of the open loop: poisson or regular");
ABSL_FLAG(int, max_concurrency, 256,
          "of the open loop: requests open at once; what is due meanwhile starts late, and its "
          "latency counts from when it was due");
ABSL_FLAG(std::string, tenants, "",
          "several loads at once: \"A:rate=40,prompt=256,output=64;B:rate=1\"; keys: rate, "
          "concurrency, prompt, output, prefix, prefixes, priority, arrivals, max_concurrency; "
          "what is not said is as the other flags have it");
ABSL_FLAG(int64_t, requests, 0,
          "requests to measure, of each tenant, which then sends no more; or say --duration");
ABSL_FLAG(absl::Duration, duration, absl::ZeroDuration(),
          "how long to measure; without --requests: 10 s");
ABSL_FLAG(absl::Duration, warmup, absl::Seconds(2), "load before the measurement begins");
ABSL_FLAG(std::string, prompt_tokens, "256", "length of prompts: 256, or a range like 64-512");
ABSL_FLAG(std::string, output_tokens, "64", "length of answers: 64, or a range like 16-128");
ABSL_FLAG(int, prefix_tokens, 0, "of each prompt, so many are one of --num_prefixes prefixes");
ABSL_FLAG(int, num_prefixes, 1, "number of common prefixes");
ABSL_FLAG(int, rounds, 0, "of a scenario; 0: as it has them");
ABSL_FLAG(std::string, compare, "", "a JSON file of an earlier run, to compare every figure with");

namespace orrery {
namespace {

constexpr int kDefaultConcurrency = 8;
constexpr absl::Duration kDefaultDuration = absl::Seconds(10);

absl::Status CheckNotNegative() {
  if (absl::GetFlag(FLAGS_concurrency) < 0 || absl::GetFlag(FLAGS_rate) < 0.0 ||
      absl::GetFlag(FLAGS_requests) < 0 || absl::GetFlag(FLAGS_rounds) < 0 ||
      absl::GetFlag(FLAGS_duration) < absl::ZeroDuration() ||
      absl::GetFlag(FLAGS_warmup) < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        "--concurrency, --rate, --requests, --rounds, --duration and --warmup cannot be negative");
  }
  return absl::OkStatus();
}

absl::StatusOr<Load> LoadFromFlags() {
  Load load;
  load.rate = absl::GetFlag(FLAGS_rate);
  load.concurrency = absl::GetFlag(FLAGS_concurrency);
  if (load.rate > 0.0 && load.concurrency > 0) {
    return absl::InvalidArgumentError("say --concurrency (closed loop) or --rate (open loop)");
  }
  if (load.rate <= 0.0 && load.concurrency == 0) load.concurrency = kDefaultConcurrency;
  load.max_concurrency = absl::GetFlag(FLAGS_max_concurrency);
  load.prefix_tokens = absl::GetFlag(FLAGS_prefix_tokens);
  load.num_prefixes = absl::GetFlag(FLAGS_num_prefixes);
  ASSIGN_OR_RETURN(load.arrivals, ParseArrivals(absl::GetFlag(FLAGS_arrivals)));
  ASSIGN_OR_RETURN(load.prompt_tokens, ParseTokenRange(absl::GetFlag(FLAGS_prompt_tokens)));
  ASSIGN_OR_RETURN(load.output_tokens, ParseTokenRange(absl::GetFlag(FLAGS_output_tokens)));
  return load;
}

// As one word of a shell.
std::string ShellQuoted(const std::string& value) {
  const auto is_plain = [](char c) {
    return absl::ascii_isalnum(c) || absl::StrContains("-_./:,=+@%", c);
  };
  if (!value.empty() && absl::c_all_of(value, is_plain)) return value;
  return absl::StrCat("'", absl::StrReplaceAll(value, {{"'", R"('\'')"}}), "'");
}

}  // namespace

absl::StatusOr<Phase> PhaseFromFlags() {
  RETURN_IF_ERROR(CheckNotNegative());
  if (absl::GetFlag(FLAGS_rounds) > 0) {
    return absl::InvalidArgumentError("--rounds are of a --scenario");
  }
  Phase phase;
  phase.name = "load";
  phase.warmup = absl::GetFlag(FLAGS_warmup);
  phase.num_requests = absl::GetFlag(FLAGS_requests);
  phase.duration = absl::GetFlag(FLAGS_duration);
  if (phase.num_requests > 0 && phase.duration > absl::ZeroDuration()) {
    return absl::InvalidArgumentError("say --requests or --duration, not both");
  }
  if (phase.num_requests == 0 && phase.duration == absl::ZeroDuration()) {
    phase.duration = kDefaultDuration;
  }
  ASSIGN_OR_RETURN(const Load load, LoadFromFlags());
  phase.loads = {load};
  if (const std::string tenants = absl::GetFlag(FLAGS_tenants); !tenants.empty()) {
    ASSIGN_OR_RETURN(phase.loads, ParseTenants(tenants, load));
  }
  return phase;
}

absl::StatusOr<ScenarioOptions> ScenarioOptionsFromFlags(const Scenario& scenario) {
  RETURN_IF_ERROR(CheckNotNegative());
  std::vector<std::string> taken = {"rounds"};
  if (scenario.takes_concurrency) taken.push_back("concurrency");
  if (scenario.takes_duration) taken.push_back("duration");
  for (const char* name :
       {"rate", "arrivals", "concurrency", "max_concurrency", "tenants", "requests", "duration",
        "warmup", "prompt_tokens", "output_tokens", "prefix_tokens", "num_prefixes"}) {
    const absl::CommandLineFlag* const flag = absl::FindCommandLineFlag(name);
    if (flag->CurrentValue() == flag->DefaultValue() || absl::c_linear_search(taken, name)) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("--", name, " cannot be said with --scenario=", scenario.name,
                     ", which has its own loads; it takes --", absl::StrJoin(taken, ", --")));
  }
  return ScenarioOptions{.concurrency = absl::GetFlag(FLAGS_concurrency),
                         .duration = absl::GetFlag(FLAGS_duration),
                         .rounds = absl::GetFlag(FLAGS_rounds)};
}

std::string CommandFromFlags(const std::vector<std::string>& flag_files,
                             const std::string& command) {
  std::map<std::string, std::string> settings;
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    const bool is_ours = std::any_of(
        flag_files.begin(), flag_files.end(),
        [&](const std::string& file) { return absl::EndsWith(flag->Filename(), file); });
    if (!is_ours || flag->CurrentValue() == flag->DefaultValue()) continue;
    settings[std::string(name)] = flag->CurrentValue();
  }
  std::string line = command;
  for (const auto& [name, value] : settings) {
    absl::StrAppend(&line, " --", name, "=", ShellQuoted(value));
  }
  return line;
}

}  // namespace orrery
