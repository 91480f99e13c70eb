#include "tools/up_command.h"

#include <cstdio>
#include <memory>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "base/stop_signal.h"
#include "rpc/cluster_file.h"
#include "tools/flags/cluster_flags.h"
#include "tools/flags/command_line.h"
#include "tools/flags/connect.h"
#include "tools/flags/tls_flags.h"
#include "tools/launch/launcher.h"
#include "tools/ready_progress.h"
#include "tools/terminal.h"

ABSL_FLAG(
    int, monitoring_port, -1,
    "the members answer probes and scrapes at this port of 127.0.0.1 and those behind it; 0: at "
    "free ones; -1: they do not");

namespace orrery {
namespace {

constexpr absl::Duration kWatchInterval = absl::Milliseconds(200);

absl::StatusOr<std::unique_ptr<Launcher>> Launch() {
  ASSIGN_OR_RETURN(LaunchOptions options, LaunchOptionsFromFlags());
  options.monitoring_port = absl::GetFlag(FLAGS_monitoring_port);
  const std::string cluster = absl::GetFlag(FLAGS_cluster);
  if (!cluster.empty() && !absl::GetFlag(FLAGS_tls).empty()) {
    return absl::InvalidArgumentError(
        "--cluster says itself where the TLS files are: leave --tls out");
  }
  if (!cluster.empty()) return Launcher::StartFile(cluster, options);
  ASSIGN_OR_RETURN(const Topology topology, TopologyFromFlags());
  return Launcher::StartLocal(topology, options);
}

void PrintMonitoring(const Launcher& launcher, Terminal& out) {
  for (const auto& [role, member] : AllMembers(launcher.cluster())) {
    const std::string address = launcher.MonitoringAddress(member->name());
    if (!address.empty()) out.Print("http://", address, "/metrics of ", member->name(), "\n");
  }
}

// Tells of members that end, until asked to stop or until no router is left.
absl::Status Watch(Launcher& launcher, StopSignal& stop, Terminal& out) {
  while (!stop.WaitFor(kWatchInterval)) {
    const absl::Status alive = launcher.CheckAlive();
    if (alive.ok()) continue;
    out.Print(out.Red(std::string(alive.message())), "\n");
    if (!launcher.HasRouter()) return absl::AbortedError("no router is left");
  }
  return absl::OkStatus();
}

absl::Status Up(Terminal& out) {
  StopSignal stop;
  ASSIGN_OR_RETURN(const std::unique_ptr<Launcher> launcher, Launch());
  out.Print("starting ", launcher->num_members(), " processes, model \"",
            launcher->cluster().model().name(), "\"\n");
  ReadyProgress progress(&out);
  bool was_asked_to_stop = false;
  const absl::Status ready = launcher->WaitUntilReady(
      absl::GetFlag(FLAGS_start_timeout),
      [&](const v1::ClusterStatusResponse& status) { progress.Update(status); },
      [&] { return was_asked_to_stop = stop.WaitFor(absl::ZeroDuration()); });
  out.ClearProgress();
  if (was_asked_to_stop) {
    launcher->Stop();
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(ready);
  // Only a convenience: without it the others need --router.
  const absl::Status remembered = RememberRouter(
      launcher->router_address(), launcher->cluster().has_tls() ? launcher->cluster_path() : "");
  if (!remembered.ok()) out.Print(std::string(remembered.message()), "\n");
  out.Print(out.Green("ready"), ": router at ", launcher->router_address(),
            "\ntry `orrery chat`, `orrery generate --prompt=...`, `orrery status` in another "
            "terminal; Ctrl-C stops all\n");
  PrintMonitoring(*launcher, out);
  const absl::Status end = Watch(*launcher, stop, out);
  ForgetRouter(launcher->router_address());
  out.Print("stopping\n");
  launcher->Stop();
  return end;
}

}  // namespace

int RunUp(const std::vector<std::string>&) {
  Terminal out(stdout);
  const absl::Status status = Up(out);
  if (status.ok()) return 0;
  return Fail("up", status);
}

}  // namespace orrery
