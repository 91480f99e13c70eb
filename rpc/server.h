// A listening gRPC server with the standard health service.
//
//   ServerOptions options{.address = "127.0.0.1:0", .tls = tls};
//   ASSIGN_OR_RETURN(auto server, Server::Start(options, {&member_service, &expert_service}));
//   LogInfo("listening on ", server->address());       // the port that was found
//   server->SetServing(true);                          // health turns from NOT_SERVING to SERVING
//   ...
//   server->Stop(absl::Now() + absl::Seconds(5));
//
// Stop: health says NOT_SERVING, no new calls, open ones may end until the deadline and are
// cancelled then.
//
// Without TLS it also has a Unix socket for members on its own host (rpc/local_socket.h), which
// rpc/member_channel.h finds; and it listens to nobody else, unless that is asked for.
//
// Threads: all methods may be called from any thread. Services must outlive the server.
// Errors: ALREADY_EXISTS if the address is in use, INVALID_ARGUMENT or UNAVAILABLE if it cannot be
// bound otherwise (both name it), FAILED_PRECONDITION if it would speak plain text to other machines, and
// those of rpc/credentials.h.
#ifndef ORRERY_RPC_SERVER_H_
#define ORRERY_RPC_SERVER_H_

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "rpc/channel.h"
#include "rpc/credentials.h"
#include "rpc/local_socket.h"
#include "rpc/wakeful.h"

namespace orrery {

// What gRPC's buffers hold of a call that is open, before any message: its memory, its headers.
inline constexpr size_t kCallBufferBytes = 16 << 10;

struct ServerOptions {
  // host:port by which others reach it; port 0 takes a free one. It binds here too, unless the next one says
  // where, and is named so, as its Unix socket is.
  std::string address;
  // host:port to bind, for an address that this machine need not know, such as a pod's DNS name; empty: the
  // address.
  std::string listen_address = {};
  TlsFiles tls = {};
  // Without TLS, the address need not be a loopback one.
  bool allow_plain_text = false;
  // Name that health answers for besides "", usually the full name of the main service. May be
  // empty.
  std::string health_name = {};
  // Lets tools such as grpcurl list the services.
  bool reflection = false;
  // Calls open at once on one connection; gRPC keeps a client's further ones back, at the client.
  // A bound for clients that open calls and send nothing, some 10 KB each. A service with places for
  // more requests asks for more calls, so that it is the service that refuses and says why.
  int max_calls_per_connection = 4096;
  // Threads in handlers of services that block one per call, whoever calls; further calls end with
  // RESOURCE_EXHAUSTED. Callback services hold none. At least 2.
  int max_threads = 256;
  int max_message_bytes = kMaxMessageBytes;
  // What gRPC's buffers of all connections may hold: of messages that are arriving, or wait to be sent. It is a
  // backstop: near it windows get small, beyond it gRPC refuses connections and ends calls with
  // RESOURCE_EXHAUSTED, any of them. Services bound what they hold by themselves, and far below.
  size_t max_buffer_bytes = size_t{32} << 20;
};

class Server {
 public:
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options,
                                                       const std::vector<grpc::Service*>& services);
  // Stops at once.
  ~Server();

  int port() const { return port_; }
  // The options' address; its port is the actual one if it was 0.
  const std::string& address() const { return address_; }
  // What health answers, for "" and health_name.
  void SetServing(bool serving);
  // Idempotent. Returns when all calls have ended.
  void Stop(absl::Time deadline);

 private:
  using LocalAcceptor = grpc::experimental::ExternalConnectionAcceptor;

  Server() = default;
  void ListenLocally(std::unique_ptr<LocalAcceptor> acceptor);

  const Wakeful wakeful_;  // while there is a server, the threads of its callbacks are
  std::unique_ptr<LocalAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
  std::mutex stop_mutex_;
  std::unique_ptr<LocalSocket> local_socket_;  // guarded by stop_mutex_; null without one
  std::string address_;
  std::string health_name_;
  int port_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_RPC_SERVER_H_
