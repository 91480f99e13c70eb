// The gRPC face of the router: proto/orrery.proto onto the core, the tokenizer and the ranks.
//
//   client --Generate--> check, template, tokens (prompt.h)
//                        -> which rank (router_core.h)
//                        -> its Attention.Generate stream, token by token (generate_call.h)
//                        -> typed deltas (delta_splitter.h) --> client
//
// A call holds one thread of gRPC while it is open; the core bounds how many there are. The
// client's deadline and its cancellation reach the rank. A client without a deadline gets
// max_request_time.
//
// Requests are read here and not by gRPC's generated code (the Streamed... variants), so that a
// message that does not parse, such as a text that is not UTF-8, is an INVALID_ARGUMENT that says
// so, and not a bare INTERNAL.
#ifndef ORRERY_SERVICES_ROUTER_ROUTER_SERVICE_H_
#define ORRERY_SERVICES_ROUTER_ROUTER_SERVICE_H_

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "proto/orrery.grpc.pb.h"
#include "services/router/generate_call.h"
#include "services/router/router_state.h"
#include "services/router/served_model.h"

namespace orrery {

class RouterService : public v1::Orrery::StreamedService {
 public:
  struct Options {
    MemberInfo self;
    // Whether tenants share prefix-cache blocks.
    bool share_prefix_cache = false;
    absl::Duration max_request_time = absl::Hours(1);
  };
  // Channels of the attention ranks, by their index in the membership.
  using RankChannels = std::map<int, std::shared_ptr<grpc::Channel>>;

  // `model` and `state` must outlive the service.
  RouterService(Options options, const ServedModel* model, RouterState* state,
                const RankChannels& ranks);

  grpc::Status StreamedGenerate(
      grpc::ServerContext* context,
      grpc::ServerSplitStreamer<v1::GenerateRequest, v1::GenerateResponse>* stream) override;
  grpc::Status StreamedTokenize(
      grpc::ServerContext* context,
      grpc::ServerUnaryStreamer<v1::TokenizeRequest, v1::TokenizeResponse>* stream) override;
  grpc::Status StreamedDetokenize(
      grpc::ServerContext* context,
      grpc::ServerUnaryStreamer<v1::DetokenizeRequest, v1::DetokenizeResponse>* stream) override;
  grpc::Status StreamedListModels(
      grpc::ServerContext* context,
      grpc::ServerUnaryStreamer<v1::ListModelsRequest, v1::ListModelsResponse>* stream) override;
  grpc::Status StreamedClusterStatus(
      grpc::ServerContext* context,
      grpc::ServerUnaryStreamer<v1::ClusterStatusRequest, v1::ClusterStatusResponse>* stream)
      override;

 private:
  absl::Status Generate(
      grpc::ServerContext& context, const v1::GenerateRequest& request,
      grpc::ServerSplitStreamer<v1::GenerateRequest, v1::GenerateResponse>& stream);

  const Options options_;
  const ServedModel* const model_;
  RouterState* const state_;
  RankStubs ranks_;
  // Makes request ids unique: the life of this process, and the number of the request in it.
  const uint64_t life_;
  std::atomic<int64_t> num_requests_{0};
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ROUTER_SERVICE_H_
