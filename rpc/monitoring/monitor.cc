#include "rpc/monitoring/monitor.h"

#include "base/log.h"
#include "rpc/monitoring/probes.h"
#include "rpc/monitoring/process_metrics.h"

namespace orrery {
namespace {

constexpr char kTextFormat[] = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace

absl::StatusOr<std::unique_ptr<Monitor>> Monitor::Start(const std::string& address,
                                                        const MemberService* member,
                                                        const MemberFacts& facts) {
  std::unique_ptr<Monitor> monitor(new Monitor(member, facts));
  if (address.empty()) return monitor;
  ASSIGN_OR_RETURN(monitor->server_,
                   HttpServer::Start({.address = address}, [raw = monitor.get()](auto path) {
                     return raw->Answer(path);
                   }));
  LogInfo("monitoring on ", monitor->server_->address());
  return monitor;
}

void Monitor::SetDetail(const MonitorDetail& detail) {
  absl::MutexLock lock(&mutex_);
  detail_ = detail;
}

void Monitor::Stop() {
  if (server_ != nullptr) server_->Stop();
}

HttpAnswer Monitor::Answer(std::string_view path) const {
  MonitorDetail detail;
  {
    absl::MutexLock lock(&mutex_);
    detail = detail_;
  }
  // The only one that takes no lock of the service, which may be what has stopped.
  if (path == "/livez") {
    return LiveAnswer(detail.heartbeat != nullptr ? detail.heartbeat->Age() : absl::ZeroDuration());
  }
  if (path == "/startupz") return StartupAnswer(member_->Description());
  if (path == "/readyz") return ReadyAnswer(member_->Description());
  if (path != "/metrics") {
    return {.status = 404, .body = "there are /metrics, /livez, /readyz and /startupz\n"};
  }
  MetricFamilies families;
  AddMemberMetrics(member_->Description(), facts_, families);
  if (detail.add_metrics) detail.add_metrics(families);
  AddProcessMetrics(families);
  return {.content_type = kTextFormat, .body = families.ToText()};
}

}  // namespace orrery
