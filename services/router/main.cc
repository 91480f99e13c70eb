// The router process: the front door of a cluster.
//
//   router --cluster=cluster.txtpb --name=router-0 [--reflection]
//
// Runs until SIGTERM or SIGINT, then lets open answers end for a few seconds and exits with 0. What
// keeps it from starting is one sentence on stderr and exit code 1.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/flags/flag.h"
#include "absl/time/clock.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/main_flags.h"
#include "base/stop_signal.h"
#include "rpc/cluster_file.h"
#include "rpc/own_name.h"
#include "services/router/router.h"

ABSL_FLAG(std::string, cluster, "", "the cluster file");
ABSL_FLAG(std::string, name, "",
          "which router member of it this process is; default: the one named like the host");
ABSL_FLAG(std::string, listen_address, "",
          "host:port to bind, if not the address of the cluster file, like 0.0.0.0:7400");
ABSL_FLAG(
    std::string, monitoring_address, "",
    "host:port of /metrics, /livez, /readyz and /startupz over plain HTTP, like 0.0.0.0:9400; "
    "port 0: a free one; empty: none");
ABSL_FLAG(bool, reflection, false, "let tools such as grpcurl list the services");

namespace orrery {
namespace {

constexpr absl::Duration kStopTimeout = absl::Seconds(5);

absl::Status Run() {
  StopSignal stop;
  const std::string name = OwnName(absl::GetFlag(FLAGS_name));
  SetLogName(name);
  ASSIGN_OR_RETURN(const internal::ClusterFile cluster,
                   ReadClusterFile(absl::GetFlag(FLAGS_cluster)));
  ASSIGN_OR_RETURN(const std::unique_ptr<Router> router,
                   Router::Start(cluster, name,
                                 {.reflection = absl::GetFlag(FLAGS_reflection),
                                  .listen_address = absl::GetFlag(FLAGS_listen_address),
                                  .monitoring_address = absl::GetFlag(FLAGS_monitoring_address)}));
  LogInfo("listening on ", router->address());
  while (!stop.WaitFor(kGiveBackInterval)) GiveBackFreedMemory();
  LogInfo("stopping");
  router->Stop(absl::Now() + kStopTimeout);
  return absl::OkStatus();
}

}  // namespace
}  // namespace orrery

int main(int argc, char** argv) {
  orrery::KeepFreedMemory();
  orrery::ParseMainFlags("the front door of a cluster: --cluster=FILE --name=NAME", argc, argv);
  const absl::Status status = orrery::Run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "router: %s\n", std::string(status.message()).c_str());
  return 1;
}
