// The core and its lock: what the service, the watch and the router's own description share.
#ifndef ORRERY_SERVICES_ROUTER_ROUTER_STATE_H_
#define ORRERY_SERVICES_ROUTER_ROUTER_STATE_H_

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "services/router/router_core.h"

namespace orrery {

// Hold the lock for single events only, never across I/O.
struct RouterState {
  explicit RouterState(RouterCore router_core) : core(std::move(router_core)) {}

  absl::Mutex mutex;
  RouterCore core ABSL_GUARDED_BY(mutex);
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ROUTER_STATE_H_
