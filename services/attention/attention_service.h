// The gRPC face of an attention rank: proto/attention.proto onto the engine.
//
// An open call holds no thread: the engine's courier says when there is something to write, and
// gRPC when a write is done.
//
// Threads: gRPC's and the courier's. The server must have stopped before the service goes; the
// engine may go before or after, its Stop ends the calls.
#ifndef ORRERY_SERVICES_ATTENTION_ATTENTION_SERVICE_H_
#define ORRERY_SERVICES_ATTENTION_ATTENTION_SERVICE_H_

#include <functional>
#include <utility>

#include "base/status.h"
#include "proto/attention.grpc.pb.h"
#include "services/attention/engine.h"

namespace orrery {

class AttentionService : public internal::Attention::CallbackService {
 public:
  // engine answers with the engine, or why a request cannot be served now. Called from any thread;
  // must not block.
  explicit AttentionService(std::function<absl::StatusOr<Engine*>()> engine)
      : engine_(std::move(engine)) {}

  grpc::ServerWriteReactor<internal::SequenceEvent>* Generate(
      grpc::CallbackServerContext* context, const internal::SequenceRequest* request) override;

 private:
  const std::function<absl::StatusOr<Engine*>()> engine_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_ATTENTION_SERVICE_H_
