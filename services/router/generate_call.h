// One Generate call under way: the rank's events in, the client's messages out, the core asked at
// every turn.
//
//   GenerateCall call({.number = 7, .request_id = "router-0-5f3a-7", .seed = seed}, context, model, state, ranks, write);
//   absl::Status status = call.Run(request, prompt);
//
// Used by router_service only. Threads: the one that runs it.
#ifndef ORRERY_SERVICES_ROUTER_GENERATE_CALL_H_
#define ORRERY_SERVICES_ROUTER_GENERATE_CALL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "proto/attention.grpc.pb.h"
#include "proto/orrery.pb.h"
#include "services/router/delta_splitter.h"
#include "services/router/prompt.h"
#include "services/router/router_state.h"
#include "services/router/served_model.h"

namespace orrery {

// By index in the membership.
using RankStubs = std::map<int, std::unique_ptr<internal::Attention::Stub>>;

class GenerateCall {
 public:
  struct Options {
    int64_t number = 0;  // for the core
    std::string request_id;
    absl::Time deadline;
  };
  // Sends one message to the client; false if it is gone.
  using Write = std::function<bool(const v1::GenerateResponse&)>;

  // Everything passed by pointer must outlive the call.
  GenerateCall(Options options, grpc::ServerContext* context, const ServedModel* model,
               RouterState* state, const RankStubs* ranks, Write write);

  // The whole answer. Fills in the seed of a sampled request that has none.
  absl::Status Run(const v1::GenerateRequest& request, const Prompt& prompt);

 private:
  // One attempt on one rank.
  Action RunOn(int member);
  // Reads the rank's stream; `ended` is set by its last event. False if the client is gone.
  bool ForwardEvents(grpc::ClientReader<internal::SequenceEvent>& reader, bool& ended);
  bool ForwardToken(const internal::SequenceToken& token);
  bool ForwardEnd(const internal::SequenceEnd& end);
  // The core's answer to an event of this call.
  Action Tell(Action (RouterCore::*event)(int64_t));
  Action TellFailed(const absl::Status& status);

  const Options options_;
  grpc::ServerContext* const context_;
  const ServedModel* const model_;
  RouterState* const state_;
  const RankStubs* const ranks_;
  const Write write_;

  internal::SequenceRequest sequence_;
  bool wants_logprobs_ = false;
  int num_tokens_ = 0;
  std::unique_ptr<DeltaSplitter> splitter_;
};

// A fresh seed for a request that brings none.
uint64_t DrawSeed();

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_GENERATE_CALL_H_
