// A small HTTP/1.1 server for machines that look after this process: GET only, no bodies, no TLS.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<HttpServer> server,
//                    HttpServer::Start({.address = "127.0.0.1:0"}, [](std::string_view path) {
//                      return path == "/livez" ? HttpAnswer{.body = "ok\n"} : HttpAnswer{.status = 404};
//                    }));
//   LogInfo("monitoring on ", server->address());      // the port that was found
//   server->Stop();
//
// One request per connection, one thread for all of them. A client that is slow, floods or stops in the middle
// costs its place until the deadline, and nobody else anything but that place:
//
//   more connections than max_connections   wait in the system's queue until one ends
//   more than max_header_bytes              431
//   anything but GET                        405
//   no HTTP                                 400
//   not read, or not written, in time       closed
//
// It is not a gateway: clients of the cluster speak gRPC (proto/orrery.proto).
//
// Threads: Start and Stop by the owner; the handler runs on the server's thread, one call at a time. It must not
// block: all other clients wait for it.
// Errors: as rpc/server.h: ALREADY_EXISTS if the address is in use, INVALID_ARGUMENT or UNAVAILABLE if it cannot
// be bound otherwise; all name it.
#ifndef ORRERY_RPC_MONITORING_HTTP_SERVER_H_
#define ORRERY_RPC_MONITORING_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "base/status.h"

namespace orrery {

struct HttpAnswer {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body = {};
};

struct HttpServerOptions {
  // host:port; port 0 takes a free one.
  std::string address = {};
  int max_connections = 32;
  int max_header_bytes = 8192;
  // For a request to arrive, and again for its answer to be taken.
  absl::Duration timeout = absl::Seconds(5);
};

class HttpServer {
 public:
  // Path as sent, without what follows a question mark.
  using Handler = std::function<HttpAnswer(std::string_view path)>;

  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           Handler handler);
  // Stops.
  virtual ~HttpServer() = default;
  // host:port with the actual port.
  virtual const std::string& address() const = 0;
  // Open connections are cut off; the handler is not called any more. Idempotent.
  virtual void Stop() = 0;
};

}  // namespace orrery

#endif  // ORRERY_RPC_MONITORING_HTTP_SERVER_H_
