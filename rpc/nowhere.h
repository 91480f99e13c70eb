// A call that fails at once without leaving the process, and the channel to nowhere that it goes through.
//
//   CallNowhere([] { ... });      // is run by a thread of gRPC's callbacks
//
// The first one keeps those threads to the end of the process. Else gRPC (1.51) ends them, and waits for that, when
// the last channel with callbacks goes away. A call holds its channel until its callback has run, so that may be in
// such a thread, which would then wait for itself and go on with a queue that is gone: "assertion failed: prior > 0",
// and signal 6. The channel to nowhere never goes away.
//
// So gRPC never shuts down, its threads run to the end, and a process that has had a channel must not fork without exec.
// Threads: any. Internal to rpc.
#ifndef ORRERY_RPC_NOWHERE_H_
#define ORRERY_RPC_NOWHERE_H_

#include <functional>

namespace orrery {

void CallNowhere(std::function<void()> on_failed);

}  // namespace orrery

#endif  // ORRERY_RPC_NOWHERE_H_
