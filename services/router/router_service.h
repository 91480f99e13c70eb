// The gRPC face of the router: proto/orrery.proto onto the core, the tokenizer and the ranks.
//
//   client --Generate--> check, template, tokens (prompt.h), by the workers (work_queue.h)
//                        -> which rank (router_core.h)
//                        -> its Attention.Generate stream, token by token (generate_call.h)
//                        -> typed deltas (answer_translator.h) --> client
//
// An open call holds no thread (gRPC's callback API); the core bounds how many there are. The
// client's deadline and its cancellation reach the rank. A client without a deadline gets
// max_request_time. A resumed request takes the same way, as a replay from the start
// (resume_token.h, received.h).
//
// Requests are read here and not by gRPC's generated code, see raw_message.h.
#ifndef ORRERY_SERVICES_ROUTER_ROUTER_SERVICE_H_
#define ORRERY_SERVICES_ROUTER_ROUTER_SERVICE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>

#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "proto/orrery.grpc.pb.h"
#include "services/router/generate_call.h"
#include "services/router/request_metrics.h"
#include "services/router/router_state.h"
#include "services/router/served_model.h"
#include "services/router/work_queue.h"

namespace orrery {

// All methods by gRPC's callback API, with messages as bytes.
using RawOrreryService =
    v1::Orrery::WithRawCallbackMethod_Generate<v1::Orrery::WithRawCallbackMethod_Tokenize<
        v1::Orrery::WithRawCallbackMethod_Detokenize<v1::Orrery::WithRawCallbackMethod_ListModels<
            v1::Orrery::WithRawCallbackMethod_ClusterStatus<v1::Orrery::Service>>>>>;

class RouterService : public RawOrreryService {
 public:
  struct Options {
    MemberInfo self;
    // Whether tenants share prefix-cache blocks.
    bool share_prefix_cache = false;
    // For clients that give no deadline.
    absl::Duration max_request_time = absl::Hours(1);
    // A client that takes nothing of what there is for so long is cut off.
    absl::Duration max_stall = absl::Minutes(1);
    WorkQueue::Options workers = {};
    // Of answers of Tokenize and Detokenize that clients have not read yet; more end with RESOURCE_EXHAUSTED.
    size_t max_reply_bytes = 16 << 20;
    ResumeTokens tokens = ResumeTokens::WithRandomKey();
  };
  // Channels of the attention ranks, by their index in the membership.
  using RankChannels = orrery::RankChannels;

  // `model` and `state` must outlive the service.
  RouterService(Options options, const ServedModel* model, RouterState* state,
                const RankChannels& ranks);

  const RequestMetrics& metrics() const { return metrics_; }
  // What reads and tokenizes requests; for tests.
  WorkQueue& workers() { return workers_; }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ClusterStatus(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;

 private:
  // Reads the request and starts the call; an error if it cannot be started. By a worker.
  absl::Status Begin(GenerateCall& call, const grpc::ByteBuffer* raw, absl::Time deadline);

  const Options options_;
  const ServedModel* const model_;
  RouterState* const state_;
  const RankChannels ranks_;
  OpenCalls calls_;
  RequestMetrics metrics_;
  // Makes request ids unique: the life of this process, and the number of the request in it.
  const uint64_t life_;
  std::atomic<int64_t> num_requests_{0};
  std::atomic<size_t> num_reply_bytes_{0};
  // Last, because its threads use the rest. Nothing waits in it any more when it goes: work belongs
  // to calls, and the server, which the service outlives, waits for these.
  WorkQueue workers_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ROUTER_SERVICE_H_
