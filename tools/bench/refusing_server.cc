#include "tools/bench/refusing_server.h"

namespace orrery {
namespace {

class Refusal : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  Refusal() { Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "there is no room")); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* RefusingServer::Service::Generate(
    grpc::CallbackServerContext*, const grpc::ByteBuffer*) {
  return new Refusal();  // deletes itself
}

absl::StatusOr<std::unique_ptr<RefusingServer>> RefusingServer::Start() {
  std::unique_ptr<RefusingServer> refusing(new RefusingServer());
  ServerOptions options;
  options.address = "127.0.0.1:0";
  ASSIGN_OR_RETURN(refusing->server_, Server::Start(options, {&refusing->service_}));
  return refusing;
}

}  // namespace orrery
