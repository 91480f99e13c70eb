// Flags that say which running cluster a command talks to, and the connection. List kConnectFlags
// among the flag files of such a command.
#ifndef ORRERY_TOOLS_FLAGS_CONNECT_H_
#define ORRERY_TOOLS_FLAGS_CONNECT_H_

#include <string>

#include "absl/flags/declare.h"
#include "base/status.h"
#include "client/orrery_client.h"

ABSL_DECLARE_FLAG(std::string, router);
ABSL_DECLARE_FLAG(std::string, cluster);

namespace orrery {

inline constexpr char kConnectFlags[] = "tools/flags/connect.cc";

// The router of --router, else of the first one in --cluster, else of the last `orrery up`.
// UNAVAILABLE if it does not answer, NOT_FOUND if none is known.
absl::StatusOr<OrreryClient> ConnectFromFlags();

// What `up` leaves for ConnectFromFlags, and takes back when it stops.
absl::Status RememberRouter(const std::string& address);
void ForgetRouter(const std::string& address);

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_CONNECT_H_
