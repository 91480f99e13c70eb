// A whole router: the model's texts, the watch over the members, the server. What main.cc runs;
// also for tests.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Router> router, Router::Start(cluster, "router-0", {}));
//   ...
//   router->Stop(absl::Now() + absl::Seconds(5));
//
// Errors of Start: what is wrong with the cluster file, the model's files or the address.
// Threads: all methods from any thread.
#ifndef ORRERY_SERVICES_ROUTER_ROUTER_H_
#define ORRERY_SERVICES_ROUTER_ROUTER_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "base/status.h"
#include "proto/cluster.pb.h"

namespace orrery {

struct RouterOptions {
  bool reflection = false;
  std::string listen_address = {};      // see rpc/server.h
  std::string monitoring_address = {};  // see rpc/monitoring/monitor.h
};

class Router {
 public:
  static absl::StatusOr<std::unique_ptr<Router>> Start(const internal::ClusterFile& cluster,
                                                       const std::string& name,
                                                       const RouterOptions& options);
  // Stops at once.
  virtual ~Router() = default;

  // host:port that it listens on.
  virtual const std::string& address() const = 0;
  // No new calls; open ones may go on until the deadline, then they are cancelled. Idempotent.
  virtual void Stop(absl::Time deadline) = 0;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ROUTER_H_
