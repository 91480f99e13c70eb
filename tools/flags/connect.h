// Flags that say which running cluster a command talks to, and the connection. List kConnectFlags
// among the flag files of such a command.
#ifndef ORRERY_TOOLS_FLAGS_CONNECT_H_
#define ORRERY_TOOLS_FLAGS_CONNECT_H_

#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "base/status.h"
#include "client/orrery_client.h"

ABSL_DECLARE_FLAG(std::vector<std::string>, router);
ABSL_DECLARE_FLAG(std::string, cluster);

namespace orrery {

inline constexpr char kConnectFlags[] = "tools/flags/connect.cc";

// The routers of --router, else those of --cluster, else that of the last `orrery up`. UNAVAILABLE if none
// answers, NOT_FOUND if none is known.
absl::StatusOr<OrreryClient> ConnectFromFlags();

// What `up` leaves for ConnectFromFlags, and takes back when it stops.
absl::Status RememberRouter(const std::string& address);
void ForgetRouter(const std::string& address);

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_CONNECT_H_
