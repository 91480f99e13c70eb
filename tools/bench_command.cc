#include "tools/bench_command.h"

#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "base/stop_signal.h"
#include "rpc/cluster_tls.h"
#include "tools/bench/exchange/exchange_command.h"
#include "tools/bench/kernels/kernels_command.h"
#include "tools/bench/loading/loading_command.h"
#include "tools/bench/model/model_command.h"
#include "tools/bench/report.h"
#include "tools/bench/scenarios.h"
#include "tools/bench/serve_bench.h"
#include "tools/bench/serve_flags.h"
#include "tools/bench/serve_result.h"
#include "tools/bench/step/step_command.h"
#include "tools/flags/cluster_flags.h"
#include "tools/flags/command_line.h"
#include "tools/flags/connect.h"
#include "tools/flags/sampling_flags.h"
#include "tools/flags/scenario_flags.h"
#include "tools/flags/seed_flag.h"
#include "tools/flags/tls_flags.h"
#include "tools/launch/launcher.h"
#include "tools/ready_progress.h"
#include "tools/terminal.h"

namespace orrery {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);

// What the flags ask for, checked before anything is started.
struct Wish {
  std::optional<Scenario> scenario;
  ScenarioOptions scenario_options;
  Phase phase;
  v1::GenerateRequest common;
  std::optional<FlatFigures> old_figures;
};

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

absl::StatusOr<Wish> WishFromFlags() {
  Wish wish;
  if (const std::string name = absl::GetFlag(FLAGS_scenario); !name.empty()) {
    ASSIGN_OR_RETURN(wish.scenario, FindScenario(name));
    ASSIGN_OR_RETURN(wish.scenario_options, ScenarioOptionsFromFlags(*wish.scenario));
  } else {
    ASSIGN_OR_RETURN(wish.phase, PhaseFromFlags());
  }
  wish.common = RequestFromFlags();
  if (wish.common.max_new_tokens() != 0) {
    return absl::InvalidArgumentError("say --output_tokens, not --max_new_tokens");
  }
  if (const std::string path = absl::GetFlag(FLAGS_compare); !path.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    absl::StatusOr<FlatFigures> figures = ReadFigures(text);
    if (!figures.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", figures.status().message()));
    }
    wish.old_figures = *std::move(figures);
  }
  return wish;
}

// The cluster under load: a running one, or one of our own that ends with this.
struct Cluster {
  std::unique_ptr<Launcher> launcher;
  std::optional<OrreryClient> client;
  TlsFiles tls;
};

absl::StatusOr<Cluster> OpenCluster(StopSignal& stop, Terminal& out) {
  Cluster cluster;
  if (!absl::GetFlag(FLAGS_router).empty() || !absl::GetFlag(FLAGS_cluster).empty()) {
    ASSIGN_OR_RETURN(cluster.tls, TlsFromFlags());
    ASSIGN_OR_RETURN(cluster.client, ConnectFromFlags());
    return cluster;
  }
  ASSIGN_OR_RETURN(const Topology topology, TopologyFromFlags());
  ASSIGN_OR_RETURN(const LaunchOptions options, LaunchOptionsFromFlags());
  ASSIGN_OR_RETURN(cluster.launcher, Launcher::StartLocal(topology, options));
  ReadyProgress progress(&out);
  const absl::Status ready = cluster.launcher->WaitUntilReady(
      absl::GetFlag(FLAGS_start_timeout),
      [&](const v1::ClusterStatusResponse& status) { progress.Update(status); },
      [&] { return stop.WaitFor(absl::ZeroDuration()); });
  out.ClearProgress();
  RETURN_IF_ERROR(ready);
  cluster.tls = ClientTls(cluster.launcher->cluster());
  ASSIGN_OR_RETURN(cluster.client, OrreryClient::Connect({cluster.launcher->router_address()},
                                                         cluster.tls, kConnectTimeout));
  return cluster;
}

absl::Status Measure(ServeBench& bench, const Wish& wish, Terminal& out) {
  if (!wish.scenario.has_value()) {
    ASSIGN_OR_RETURN(const PhaseResult* const result, bench.Run(wish.phase));
    out.Print(PhaseText(*result));
    return absl::OkStatus();
  }
  out.Print(wish.scenario->name, ": ", wish.scenario->summary, "\n");
  RETURN_IF_ERROR(wish.scenario->run(bench, wish.scenario_options));
  out.Print("\n");
  for (const Finding& finding : bench.result().findings) out.Print(FindingText(finding));
  return absl::OkStatus();
}

absl::Status Deliver(const ServeResult& result, const Wish& wish, Terminal& out) {
  out.Print("\n", DefinitionsText());
  const std::string json = ToJson(result);
  if (wish.old_figures.has_value()) {
    ASSIGN_OR_RETURN(const FlatFigures figures, ReadFigures(json));
    out.Print("\n", CompareText(*wish.old_figures, figures));
  }
  const std::string path = absl::GetFlag(FLAGS_json_file);
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << json;
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

// Whether every target held.
absl::StatusOr<bool> BenchServe(const Wish& wish) {
  StopSignal stop;
  bool was_asked_to_stop = false;
  Terminal out(stdout);
  ASSIGN_OR_RETURN(Cluster cluster, OpenCluster(stop, out));
  ServeBench::Options options = {
      .client = &*cluster.client,
      .tls = cluster.tls,
      .common = wish.common,
      .seed = wish.common.seed(),
      .timeout = absl::GetFlag(FLAGS_timeout),
      .out = &out,
      .should_stop =
          [&] {
            was_asked_to_stop = was_asked_to_stop || stop.WaitFor(absl::ZeroDuration());
            return was_asked_to_stop;
          },
      .command = CommandFromFlags({kServeFlags, kScenarioFlags, kClusterFlags, kConnectFlags,
                                   kTlsFlags, kSamplingFlags, kSeedFlag})};
  ASSIGN_OR_RETURN(const std::unique_ptr<ServeBench> bench, ServeBench::Open(std::move(options)));
  out.Print(bench->result().command, "\nmodel \"", bench->result().model.name(), "\", ",
            bench->result().members.size(), " members, router at ", cluster.client->address(),
            "\n\n");
  const absl::Status measured = Measure(*bench, wish, out);
  if (cluster.launcher != nullptr) {
    // A member that died explains more than the errors that followed.
    RETURN_IF_ERROR(cluster.launcher->CheckAlive());
    cluster.client.reset();  // so that nobody waits for its farewell
    cluster.launcher->Stop();
  }
  RETURN_IF_ERROR(measured);
  RETURN_IF_ERROR(Deliver(bench->result(), wish, out));
  return bench->result().held();
}

}  // namespace

int RunBench(const std::vector<std::string>& arguments) {
  if (arguments == std::vector<std::string>{"step"}) return RunBenchStep();
  if (arguments == std::vector<std::string>{"kernels"}) return RunBenchKernels();
  if (arguments == std::vector<std::string>{"model"}) return RunBenchModel();
  if (arguments == std::vector<std::string>{"exchange"}) return RunBenchExchange();
  if (arguments == std::vector<std::string>{"loading"}) return RunBenchLoading();
  if (arguments != std::vector<std::string>{"serve"}) {
    std::fprintf(stderr,
                 "orrery: say `orrery bench serve`, `step`, `kernels`, `model`, `exchange` or "
                 "`loading`\n");
    return 2;
  }
  const absl::StatusOr<Wish> wish = WishFromFlags();
  const absl::StatusOr<bool> held = wish.ok() ? BenchServe(*wish) : wish.status();
  if (!held.ok()) {
    return Fail("bench serve", held.status());
  }
  return *held ? 0 : 1;
}

}  // namespace orrery
