// Flags that say which running cluster a command talks to, and the connection. List kConnectFlags
// among the flag files of such a command.
#ifndef ORRERY_TOOLS_FLAGS_CONNECT_H_
#define ORRERY_TOOLS_FLAGS_CONNECT_H_

#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "base/status.h"
#include "client/orrery_client.h"
#include "rpc/tls/tls_files.h"

ABSL_DECLARE_FLAG(std::vector<std::string>, router);
ABSL_DECLARE_FLAG(std::string, cluster);

namespace orrery {

inline constexpr char kConnectFlags[] = "tools/flags/connect.cc";

// The routers of --router, else those of --cluster, else that of the last `orrery up`. UNAVAILABLE if none
// answers, NOT_FOUND if none is known.
absl::StatusOr<OrreryClient> ConnectFromFlags();

// What it speaks with them: the files of --tls, else those of --cluster or of the last `orrery up`.
absl::StatusOr<TlsFiles> TlsFromFlags();

// What `up` leaves for ConnectFromFlags, and takes back when it stops. `cluster_path`: of a cluster file that says
// how to speak TLS; empty: plain text.
absl::Status RememberRouter(const std::string& address, const std::string& cluster_path);
void ForgetRouter(const std::string& address);

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_CONNECT_H_
