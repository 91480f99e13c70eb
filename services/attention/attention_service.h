// The gRPC face of an attention rank: proto/attention.proto onto the engine.
#ifndef ORRERY_SERVICES_ATTENTION_ATTENTION_SERVICE_H_
#define ORRERY_SERVICES_ATTENTION_ATTENTION_SERVICE_H_

#include <functional>
#include <utility>

#include "base/status.h"
#include "proto/attention.grpc.pb.h"
#include "services/attention/engine.h"

namespace orrery {

class AttentionService : public internal::Attention::Service {
 public:
  // engine answers with the engine, or why a request cannot be served now. Called from any thread.
  explicit AttentionService(std::function<absl::StatusOr<Engine*>()> engine)
      : engine_(std::move(engine)) {}

  grpc::Status Generate(grpc::ServerContext* context, const internal::SequenceRequest* request,
                        grpc::ServerWriter<internal::SequenceEvent>* writer) override;

 private:
  absl::Status Stream(grpc::ServerContext& context, const internal::SequenceRequest& request,
                      grpc::ServerWriter<internal::SequenceEvent>& writer);

  std::function<absl::StatusOr<Engine*>()> engine_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_ATTENTION_SERVICE_H_
