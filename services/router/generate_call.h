// One Generate call under way: the rank's events in, the client's messages out, the core asked at
// every turn.
//
//   GenerateCall call({.number = 7, .deadline = deadline}, context, model, state, ranks, write);
//   absl::Status status = call.Run(MakeSequenceRequest(model, request, prompt, options));
//
// Every token is passed on as it comes: which of them may leave, and where a stop string cuts, is the
// rank's decision. The core hears of the first token and of the ends, not of each token: its lock is
// shared by all calls.
//
// Used by router_service only. Threads: the one that runs it.
#ifndef ORRERY_SERVICES_ROUTER_GENERATE_CALL_H_
#define ORRERY_SERVICES_ROUTER_GENERATE_CALL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "proto/attention.grpc.pb.h"
#include "proto/orrery.pb.h"
#include "services/router/delta_splitter.h"
#include "services/router/router_state.h"
#include "services/router/served_model.h"

namespace orrery {

// By index in the membership.
using RankStubs = std::map<int, std::unique_ptr<internal::Attention::Stub>>;

class GenerateCall {
 public:
  struct Options {
    int64_t number = 0;  // for the core
    absl::Time deadline;
    bool wants_logprobs = false;
    bool starts_in_thinking = false;
  };
  // Sends one message to the client; false if it is gone.
  using Write = std::function<bool(const v1::GenerateResponse&)>;

  // Everything passed by pointer must outlive the call.
  GenerateCall(const Options& options, grpc::ServerContext* context, const ServedModel* model,
               RouterState* state, const RankStubs* ranks, Write write);

  // All choices, to their ends. Once.
  absl::Status Run(internal::SequenceRequest sequence);

 private:
  struct Choice {
    DeltaSplitter splitter;
    int num_tokens = 0;
    bool has_ended = false;
  };

  // One attempt on one rank.
  Action RunOn(int member);
  // Reads the rank's stream until all choices have ended, or it ends. CANCELLED if the client is gone,
  // INTERNAL if the rank sends what cannot be.
  absl::Status ForwardEvents(grpc::ClientReader<internal::SequenceEvent>& reader);
  absl::Status ForwardToken(const internal::SequenceToken& token);
  absl::Status ForwardEnd(const internal::SequenceEnd& end);
  absl::StatusOr<Choice*> OpenChoice(int index);
  absl::Status Send();

  // The core's answer to an event of this call.
  Action Tell(Action (RouterCore::*event)(int64_t));
  Action TellFailed(const absl::Status& status);
  void TellTokens();

  const Options options_;
  grpc::ServerContext* const context_;
  const ServedModel* const model_;
  RouterState* const state_;
  const RankStubs* const ranks_;
  const Write write_;

  internal::SequenceRequest sequence_;
  std::vector<Choice> choices_;
  int num_ended_ = 0;
  int64_t num_tokens_ = 0;         // of all choices
  int64_t num_told_tokens_ = 0;    // of these, what the core knows of
  v1::GenerateResponse response_;  // reused: its texts keep their memory
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_GENERATE_CALL_H_
