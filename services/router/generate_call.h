// One Generate call under way: the rank's events in, the client's messages out, the core asked at
// every turn.
//
//   std::shared_ptr<GenerateCall> call = GenerateCall::Accept(context, shared);
//   ...                                  // call.get() is what gRPC gets; later, on any thread:
//   call->Start(MakeSequenceRequest(...), options);     // or call->Refuse(why)
//
// It holds no thread: every step is an event of gRPC's callback API.
//
//   kAccepted --Start--> kRunning --the core says finish--> kFinished      (or kWaiting first)
//       |                 |    ^                               ^
//       |                 |    +-- the core says start         |
//       |                 +--> kWaiting -- the core says finish+
//       +--------- Refuse, or the core refuses ----------------+
//
// An attempt is over when the rank's call is, and all that came from it is written or the client is
// gone. Then the core says what is next: on another rank, later (kWaiting: an alarm asks it again), or
// nothing. The next attempt is told what came of the ones before. At most kMaxPending messages wait to be written; with that many the rank is not read, so that
// gRPC's flow control holds it back. The core hears of the first token and of the ends, not of each
// token: its lock is shared by all calls.
//
// The client's cancellation is passed on by hand and not by gRPC's inheritance: the rank's CANCELLED
// could arrive before we know of the client's, and would look as if the rank had cancelled.
//
// Lifetime: everyone who may still call it shares it: gRPC until OnDone, the rank's call until its
// own, the worker that will start it. What `shared` points to must live until gRPC's server has
// stopped: nothing of it is touched after Finish. The rank's call is destroyed before: it shares the
// channel, and if one of gRPC's threads were the last to let go of that, it would wait for itself.
//
// Used by router_service only. Threads: all of gRPC's; each event holds the mutex to its end.
#ifndef ORRERY_SERVICES_ROUTER_GENERATE_CALL_H_
#define ORRERY_SERVICES_ROUTER_GENERATE_CALL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "grpcpp/alarm.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "proto/attention.grpc.pb.h"
#include "proto/orrery.pb.h"
#include "rpc/member_channel.h"
#include "services/router/answer_translator.h"
#include "services/router/open_calls.h"
#include "services/router/request_metrics.h"
#include "services/router/resume_token.h"
#include "services/router/router_state.h"
#include "services/router/served_model.h"

namespace orrery {

// By index in the membership.
using RankChannels = std::map<int, std::shared_ptr<MemberChannel>>;

class GenerateCall : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                     public std::enable_shared_from_this<GenerateCall> {
 public:
  struct Shared {
    const ServedModel* model = nullptr;
    RouterState* state = nullptr;
    const RankChannels* ranks = nullptr;
    OpenCalls* calls = nullptr;
    const ResumeTokens* tokens = nullptr;
    RequestMetrics* metrics = nullptr;
  };
  struct Options {
    int64_t number = 0;  // for the core
    absl::Time deadline;
    // A client that takes nothing of what there is for so long is cut off.
    absl::Duration max_stall;
    AnswerTranslator::Options answer;
    // Of an answer that began by another call: with which model, its token, and the client's number of
    // this attempt.
    std::optional<ModelIdentity> began_with = std::nullopt;
    std::string resume_token = {};
    int attempt = 0;
  };
  static std::shared_ptr<GenerateCall> Accept(grpc::CallbackServerContext* context,
                                              const Shared& shared);

  ~GenerateCall() override;

  // One of the two, once. All choices, to their ends; what goes wrong is logged.
  void Start(internal::SequenceRequest sequence, const Options& options);
  void Refuse(const absl::Status& why);
  // Whether the client is gone already.
  bool is_cancelled();
  // Another call continues its answer: this one ends with ABORTED.
  void Supersede();

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  static constexpr size_t kMaxPending = 16;

  enum class State { kAccepted, kRunning, kWaiting, kFinished };
  class RankCall;

  GenerateCall(grpc::CallbackServerContext* context, const Shared& shared);

  // --- Events of the rank's call. `event` is null at the end of its stream ---
  void OnRead(const internal::SequenceEvent* event);
  void OnRankDone(absl::Status status);
  // It has waited for a rank, or need not wait any more.
  void OnWaited();
  void OnStallAlarm();

  // --- The rest is called with the mutex held ---
  // What the core says first.
  Action Open();
  void SendStarted();
  void Do(const Action& action);
  void StartOn(const Action& action);
  void WaitFor(absl::Duration delay);
  // Whether more of the stream is wanted.
  bool Take(const internal::SequenceEvent& event);
  // A token of this choice is passed on.
  void MeasureToken(int choice);
  void Send(const v1::GenerateResponse& response);
  void WriteNext();
  void WatchForStall();
  void Cancel();
  // Nothing more is wanted of the rank, nor waited for.
  void GiveUp();
  // Asks the core what is next, if neither the rank nor the client is being waited for.
  void EndAttemptIfOver();
  Action TellEnd();
  void TellTokens();
  void FinishWith(const absl::Status& status);
  // One line for each request. Nothing of what it asks or is answered.
  void LogEnd(const absl::Status& status) const;

  grpc::CallbackServerContext* const context_;  // not to be touched after Finish
  const Shared shared_;
  const absl::Time arrived_at_;

  std::mutex mutex_;
  // Everything below is guarded by mutex_.
  std::shared_ptr<GenerateCall> self_;  // until OnDone
  State state_ = State::kAccepted;
  Options options_;
  internal::SequenceRequest sequence_;
  std::optional<AnswerTranslator> answer_;
  int64_t num_told_tokens_ = 0;              // of the answer's, what the core knows of
  std::map<int, absl::Time> last_token_at_;  // by choice
  uint32_t num_starts_ = 0;
  std::unique_ptr<grpc::Alarm> waiting_;  // while in kWaiting; another one each time

  // The client's side.
  std::deque<grpc::ByteBuffer> pending_;  // the first is being written, if one is
  bool is_writing_ = false;
  absl::Time written_since_;  // since when it is being written
  std::unique_ptr<grpc::Alarm>
      stalled_;  // set while something is written, and beyond; another one each time
  bool is_cancelled_ = false;
  bool has_stalled_ = false;
  bool is_superseded_ = false;

  // The rank's side, of the attempt under way.
  std::unique_ptr<RankCall> rank_;
  bool is_paused_ = false;  // nothing is being read, because too much is pending
  absl::Status refusal_;    // why its stream makes no sense
  absl::Status rank_status_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_GENERATE_CALL_H_
