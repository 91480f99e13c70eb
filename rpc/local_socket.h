// A Unix socket beside a server's port, for those who reach it on its own host: a round trip takes
// three quarters of what it takes through TCP.
//
//   server:  LocalSocket::Listen("127.0.0.1:7420", [](int socket) { ... });   // until destruction
//   client:  if (SomebodyListensLocally("127.0.0.1:7420")) connect to LocalTarget("127.0.0.1:7420")
//
// The name is the address, in the abstract namespace, which processes that share a network share
// too: no file stays behind, and whoever has the name was told the same address. Connections of
// another user's process are closed; a client asks the system whose the listener is.
//
// Plain text, so only for servers without TLS. Internal to rpc.
// Threads: the callback runs on one thread of the object's own.
// Errors: what the system says, ALREADY_EXISTS if the name is taken.
#ifndef ORRERY_RPC_LOCAL_SOCKET_H_
#define ORRERY_RPC_LOCAL_SOCKET_H_

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"

namespace orrery {

class LocalSocket {
 public:
  // on_connection owns the socket.
  static absl::StatusOr<std::unique_ptr<LocalSocket>> Listen(
      const std::string& address, std::function<void(int socket)> on_connection);
  virtual ~LocalSocket() = default;
};

// Does not wait.
bool SomebodyListensLocally(const std::string& address);
// For gRPC.
std::string LocalTarget(const std::string& address);

}  // namespace orrery

#endif  // ORRERY_RPC_LOCAL_SOCKET_H_
