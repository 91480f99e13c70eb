// attention: one data-parallel attention rank.
//
//   attention --cluster=cluster.txtpb --name=attention-0
//
// Serves until SIGTERM or SIGINT, then until its sequences have ended, at most limits.drain_ms, or until a
// second signal, and exits 0. Exits 1 with one sentence if it cannot start.
#include <cstdio>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/time/clock.h"
#include "base/fault_point.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/main_flags.h"
#include "base/stop_signal.h"
#include "rpc/cluster_file.h"
#include "rpc/own_name.h"
#include "services/attention/attention_server.h"

ABSL_FLAG(std::string, cluster, "", "the cluster file");
ABSL_FLAG(std::string, name, "",
          "which attention member of it this process is; default: the one named like the host");
ABSL_FLAG(std::string, cpu_variant, "best",
          "kernels to use: best, amx, avx512bf16, avx512, avx2 or scalar; the bits are the same");
ABSL_FLAG(std::string, die_at, "",
          "for tests: POINT:N, where the process dies as if by kill -9 (base/fault_point.h)");
ABSL_FLAG(std::string, listen_address, "",
          "host:port to bind, if not the address of the cluster file, like 0.0.0.0:7410");
ABSL_FLAG(
    std::string, monitoring_address, "",
    "host:port of /metrics, /livez, /readyz and /startupz over plain HTTP, like 0.0.0.0:9400; "
    "port 0: a free one; empty: none");
ABSL_FLAG(bool, reflection, false, "let tools such as grpcurl list the services");

namespace orrery {
namespace {

constexpr absl::Duration kStopTimeout = absl::Seconds(5);
constexpr absl::Duration kLookInterval = absl::Milliseconds(50);

absl::Status Run() {
  StopSignal stop;
  AttentionServerOptions options;
  options.name = OwnName(absl::GetFlag(FLAGS_name));
  options.reflection = absl::GetFlag(FLAGS_reflection);
  options.listen_address = absl::GetFlag(FLAGS_listen_address);
  options.monitoring_address = absl::GetFlag(FLAGS_monitoring_address);
  SetLogName(options.name);
  RETURN_IF_ERROR(ArmFaultPoint(absl::GetFlag(FLAGS_die_at)));
  ASSIGN_OR_RETURN(internal::ClusterFile cluster, ReadClusterFile(absl::GetFlag(FLAGS_cluster)));
  options.cluster = WithoutRetiring(std::move(cluster));
  ASSIGN_OR_RETURN(options.cpu_variant, ParseCpuVariant(absl::GetFlag(FLAGS_cpu_variant)));
  ASSIGN_OR_RETURN(const std::unique_ptr<AttentionServer> server, AttentionServer::Start(options));
  while (!stop.WaitFor(kGiveBackInterval)) GiveBackFreedMemory();
  LogInfo("draining");
  server->BeginDrain();
  const absl::Time drained_by =
      absl::Now() + absl::Milliseconds(options.cluster.limits().drain_ms());
  // Asked a second time, it does not wait.
  while (server->is_needed() && absl::Now() < drained_by && !stop.WaitFor(kLookInterval)) {
  }
  LogInfo("stopping");
  server->Stop(absl::Now() + kStopTimeout);
  return absl::OkStatus();
}

}  // namespace
}  // namespace orrery

int main(int argc, char** argv) {
  orrery::KeepFreedMemory();
  orrery::ParseMainFlags("one data-parallel attention rank: --cluster=FILE --name=NAME", argc,
                         argv);
  const absl::Status status = orrery::Run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "attention: %s\n", std::string(status.message()).c_str());
  return 1;
}
