// A gRPC server that refuses every Generate at once and does nothing else: what refusing must cost at least.
//
//   ASSIGN_OR_RETURN(const std::unique_ptr<RefusingServer> server, RefusingServer::Start());
//   load.address = server->address();
//
// In this process, on a free port of the loopback, without TLS. For measurements only.
#ifndef ORRERY_TOOLS_BENCH_REFUSING_SERVER_H_
#define ORRERY_TOOLS_BENCH_REFUSING_SERVER_H_

#include <memory>
#include <string>

#include "base/status.h"
#include "proto/orrery.grpc.pb.h"
#include "rpc/server.h"

namespace orrery {

class RefusingServer {
 public:
  static absl::StatusOr<std::unique_ptr<RefusingServer>> Start();
  const std::string& address() const { return server_->address(); }

 private:
  // Takes no message apart.
  class Service : public v1::Orrery::WithRawCallbackMethod_Generate<v1::Orrery::Service> {
   public:
    grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request) override;
  };

  RefusingServer() = default;

  Service service_;
  std::unique_ptr<Server> server_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_REFUSING_SERVER_H_
