// The monitoring port of a service: probes and metrics over plain HTTP. README.md says what it answers.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Monitor> monitor,
//                    Monitor::Start("127.0.0.1:9400", &member_service, {.model = "abacus"}));
//   ... load ...
//   monitor->SetDetail({.heartbeat = &engine->heartbeat(), .add_metrics = [&](MetricFamilies& families) {...}});
//   ...
//   monitor->Stop();    // last: it tells that the service stops
//
// Start it before what takes long. Without an address it does nothing.
//
// Threads: any. What `add_metrics` and the member's live edit touch must outlive Stop, and may be called from
// the monitor's thread until then; neither may block.
// Errors of Start: those of rpc/monitoring/http_server.h.
#ifndef ORRERY_RPC_MONITORING_MONITOR_H_
#define ORRERY_RPC_MONITORING_MONITOR_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/heartbeat.h"
#include "base/status.h"
#include "rpc/member_service.h"
#include "rpc/monitoring/http_server.h"
#include "rpc/monitoring/member_metrics.h"
#include "rpc/monitoring/metric_families.h"

namespace orrery {

// What is there only once a member has loaded.
struct MonitorDetail {
  const Heartbeat* heartbeat = nullptr;  // of its loop; null: nothing to watch yet
  std::function<void(MetricFamilies&)> add_metrics = {};
};

class Monitor {
 public:
  // address: host:port, port 0 for a free one; empty for no port at all. Logs "monitoring on HOST:PORT".
  static absl::StatusOr<std::unique_ptr<Monitor>> Start(const std::string& address,
                                                        const MemberService* member,
                                                        const MemberFacts& facts);
  ~Monitor() { Stop(); }
  void SetDetail(const MonitorDetail& detail);
  // Idempotent.
  void Stop();

 private:
  Monitor(const MemberService* member, const MemberFacts& facts) : member_(member), facts_(facts) {}
  HttpAnswer Answer(std::string_view path) const;

  const MemberService* const member_;
  const MemberFacts facts_;
  mutable absl::Mutex mutex_;
  MonitorDetail detail_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<HttpServer> server_;  // null without an address
};

}  // namespace orrery

#endif  // ORRERY_RPC_MONITORING_MONITOR_H_
