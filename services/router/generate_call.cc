#include "services/router/generate_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/log.h"
#include "grpc/grpc.h"
#include "rpc/deadline.h"
#include "rpc/status.h"
#include "services/router/open_request_bytes.h"
#include "services/router/raw_message.h"

namespace orrery {
namespace {

constexpr absl::Duration kLoggedTime = absl::Milliseconds(1);

}  // namespace

// One attempt on one rank. Its hold keeps it open while nothing is being read; StopReading lets go
// of it, once.
class GenerateCall::RankCall : public grpc::ClientReadReactor<internal::SequenceEvent> {
 public:
  RankCall(std::shared_ptr<GenerateCall> call, absl::Time deadline) : call_(std::move(call)) {
    SetDeadline(context_, deadline);
  }

  void Start(MemberChannel& rank, const internal::SequenceRequest& sequence) {
    stub_ = internal::Attention::NewStub(rank.Now());
    stub_->async()->Generate(&context_, &sequence, this);
    AddHold();
    StartRead(&event_);
    StartCall();
  }
  void Read() { StartRead(&event_); }
  void StopReading() { RemoveHold(); }
  void Cancel() { context_.TryCancel(); }

  // Its check ends the process where a bit flipped on the way (exchange/grpc/grpc_rank_channel.cc); nobody asks.
  bool InternalTrailersOnly(const grpc_call*) const override { return false; }
  void OnReadDone(bool ok) override { call_->OnRead(ok ? &event_ : nullptr); }
  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<GenerateCall> call = call_;  // this is gone when it returns
    call->OnRankDone(FromGrpcStatus(status, context_));
  }

 private:
  const std::shared_ptr<GenerateCall> call_;
  std::unique_ptr<internal::Attention::Stub> stub_;
  grpc::ClientContext context_;
  internal::SequenceEvent event_;
};

GenerateCall::GenerateCall(grpc::CallbackServerContext* context, const Shared& shared)
    : context_(context), shared_(shared), arrived_at_(absl::Now()) {}

GenerateCall::~GenerateCall() = default;

std::shared_ptr<GenerateCall> GenerateCall::Accept(grpc::CallbackServerContext* context,
                                                   const Shared& shared) {
  std::shared_ptr<GenerateCall> call(new GenerateCall(context, shared));
  call->self_ = call;
  return call;
}

void GenerateCall::Start(internal::SequenceRequest sequence, const Options& options) {
  const std::lock_guard lock(mutex_);
  ORRERY_CHECK(state_ == State::kAccepted) << "state " << static_cast<int>(state_);
  options_ = options;
  sequence_ = std::move(sequence);
  const absl::StatusOr<std::shared_ptr<GenerateCall>> older =
      shared_.calls->Enter(sequence_.request_id(), options_.attempt, shared_from_this());
  if (!older.ok()) return FinishWith(older.status());
  // It never locks this one: it is out of the list.
  if (*older != nullptr) (*older)->Supersede();
  const Action action = Open();
  if (action.kind == Action::Kind::kFinish) return FinishWith(action.status);

  answer_.emplace(shared_.model, sequence_, options_.answer);
  options_.answer.received = {};  // the translator has them, and the core the model
  options_.began_with.reset();
  Do(action);
}

Action GenerateCall::Open() {
  if (options_.began_with.has_value()) {
    const int64_t num_bytes = OpenRequestBytes(sequence_, options_.resume_token.size());
    return shared_.state->With([&](RouterCore& core) {
      return core.OnResumed(options_.number, sequence_.tenant(), *options_.began_with, num_bytes);
    });
  }
  const int64_t num_bytes = OpenRequestBytes(sequence_, kUsualTokenBytes);
  return shared_.state->With([&](RouterCore& core) {
    return core.OnRequest(options_.number, sequence_.tenant(), num_bytes,
                          options_.deadline - absl::Now());
  });
}

void GenerateCall::SendStarted() {
  if (options_.resume_token.empty()) {
    const auto model =
        shared_.state->With([this](RouterCore& core) { return core.model_of(options_.number); });
    options_.resume_token = shared_.tokens->Make(sequence_, *model);
  }
  shared_.metrics->OnStarted(sequence_.prompt_ids_size());
  v1::GenerateResponse response;
  v1::Started& started = *response.mutable_started();
  started.set_request_id(sequence_.request_id());
  started.set_model(shared_.model->name);
  started.set_seed(sequence_.sampling().seed());
  started.set_prompt_tokens(sequence_.prompt_ids_size());
  started.set_resume_token(options_.resume_token);
  Send(response);
}

void GenerateCall::Refuse(const absl::Status& why) {
  const std::lock_guard lock(mutex_);
  FinishWith(why);
}

bool GenerateCall::is_cancelled() {
  const std::lock_guard lock(mutex_);
  return is_cancelled_;
}

void GenerateCall::Supersede() {
  const std::lock_guard lock(mutex_);
  if (state_ != State::kRunning && state_ != State::kWaiting) return;
  is_superseded_ = true;
  GiveUp();
}

void GenerateCall::Do(const Action& action) {
  switch (action.kind) {
    case Action::Kind::kStart:
      return StartOn(action);
    case Action::Kind::kWait:
      return WaitFor(action.delay);
    default:
      return FinishWith(action.status);
  }
}

void GenerateCall::StartOn(const Action& action) {
  state_ = State::kRunning;
  if (num_starts_ == 0) SendStarted();
  if (action.is_replay) {
    answer_->FillSoFar(sequence_);
    LogInfo("request ", sequence_.request_id(), ": replayed behind ", answer_->num_tokens(),
            " tokens of this call");
  }
  sequence_.set_attempt((static_cast<uint64_t>(options_.attempt) << 32) | num_starts_++);
  rank_ = std::make_unique<RankCall>(shared_from_this(), options_.deadline);
  refusal_ = absl::OkStatus();
  rank_->Start(*shared_.ranks->at(action.member), sequence_);
  // Since the last attempt, or since it was accepted.
  if (is_cancelled_ || is_superseded_) rank_->Cancel();
}

void GenerateCall::WaitFor(absl::Duration delay) {
  state_ = State::kWaiting;
  waiting_ = std::make_unique<grpc::Alarm>();
  // Not beyond the deadline, which is the core's to tell of.
  const absl::Time until = std::min(absl::Now() + delay, options_.deadline);
  waiting_->Set(absl::ToChronoTime(until), [weak = weak_from_this()](bool) {
    if (const std::shared_ptr<GenerateCall> call = weak.lock()) call->OnWaited();
  });
  if (is_cancelled_ || is_superseded_) waiting_->Cancel();
}

void GenerateCall::OnWaited() {
  const std::lock_guard lock(mutex_);
  if (state_ == State::kWaiting) Do(TellEnd());
}

void GenerateCall::OnRead(const internal::SequenceEvent* event) {
  const std::lock_guard lock(mutex_);
  if (event == nullptr || is_cancelled_ || is_superseded_ || !Take(*event)) {
    rank_->StopReading();
  } else if (pending_.size() >= kMaxPending) {
    is_paused_ = true;
  } else {
    rank_->Read();
  }
}

bool GenerateCall::Take(const internal::SequenceEvent& event) {
  v1::GenerateResponse response;
  const int64_t num_before = answer_->num_tokens();
  refusal_ = answer_->Translate(event, response);
  if (!refusal_.ok()) {
    rank_->Cancel();
    return false;
  }
  if (answer_->num_tokens() > num_before) MeasureToken(event.token().choice());
  if (answer_->num_tokens() == 1) TellTokens();
  if (response.event_case() != v1::GenerateResponse::EVENT_NOT_SET) Send(response);
  return !answer_->has_ended();
}

void GenerateCall::MeasureToken(int choice) {
  shared_.metrics->OnToken();
  const absl::Time now = absl::Now();
  const auto last = last_token_at_.find(choice);
  if (last != last_token_at_.end()) {
    shared_.metrics->OnNextToken(now - last->second);
  } else if (last_token_at_.empty()) {
    shared_.metrics->OnFirstToken(now - arrived_at_);
  }
  last_token_at_[choice] = now;
}

void GenerateCall::Send(const v1::GenerateResponse& response) {
  if (is_cancelled_) return;
  pending_.push_back(ToBytes(response));
  WriteNext();
}

void GenerateCall::WriteNext() {
  if (is_writing_ || pending_.empty()) return;
  is_writing_ = true;
  grpc::WriteOptions options;
  if (pending_.size() > 1) options.set_buffer_hint();  // the next one follows at once
  written_since_ = absl::Now();
  if (stalled_ == nullptr) WatchForStall();
  StartWrite(&pending_.front(), options);
}

void GenerateCall::WatchForStall() {
  stalled_ = std::make_unique<grpc::Alarm>();
  stalled_->Set(absl::ToChronoTime(written_since_ + options_.max_stall),
                [weak = weak_from_this()](bool has_passed) {
                  const std::shared_ptr<GenerateCall> call = weak.lock();
                  if (has_passed && call != nullptr) call->OnStallAlarm();
                });
}

void GenerateCall::OnStallAlarm() {
  std::unique_ptr<grpc::Alarm> passed;  // let go of outside the lock
  const std::lock_guard lock(mutex_);
  passed = std::move(stalled_);
  if (state_ == State::kFinished || !is_writing_) return;
  if (absl::Now() < written_since_ + options_.max_stall) return WatchForStall();
  has_stalled_ = true;
  // OnCancel follows. gRPC's own way of cancelling would not tell the client why.
  grpc_call_cancel_with_status(
      context_->c_call(), GRPC_STATUS_RESOURCE_EXHAUSTED,
      absl::StrCat("cut off: for ", absl::FormatDuration(options_.max_stall),
                   " the client took nothing of what there is")
          .c_str(),
      /*reserved=*/nullptr);
}

void GenerateCall::OnWriteDone(bool ok) {
  const std::lock_guard lock(mutex_);
  is_writing_ = false;
  pending_.pop_front();
  if (!ok) Cancel();
  WriteNext();
  if (is_paused_ && pending_.size() < kMaxPending) {
    is_paused_ = false;
    rank_->Read();
  }
  EndAttemptIfOver();
}

void GenerateCall::OnCancel() {
  const std::lock_guard lock(mutex_);
  Cancel();
}

void GenerateCall::Cancel() {
  is_cancelled_ = true;
  GiveUp();
}

void GenerateCall::GiveUp() {
  pending_.resize(is_writing_ ? 1 : 0);  // what gRPC is writing must stay
  if (state_ == State::kWaiting) waiting_->Cancel();
  if (rank_ == nullptr) return;
  rank_->Cancel();
  if (is_paused_) rank_->StopReading();
  is_paused_ = false;
}

void GenerateCall::OnRankDone(absl::Status status) {
  const std::lock_guard lock(mutex_);
  rank_.reset();
  rank_status_ = std::move(status);
  EndAttemptIfOver();
}

void GenerateCall::EndAttemptIfOver() {
  if (state_ != State::kRunning || rank_ != nullptr || !pending_.empty()) return;
  TellTokens();
  Do(TellEnd());
}

Action GenerateCall::TellEnd() {
  return shared_.state->With([this](RouterCore& core) {
    const int64_t number = options_.number;
    if (has_stalled_) return core.OnStalled(number);
    if (is_cancelled_) return core.OnCancelled(number);
    if (is_superseded_) return core.OnSuperseded(number);
    if (state_ == State::kWaiting) {
      return absl::Now() < options_.deadline ? core.OnRetry(number) : core.OnDeadline(number);
    }
    if (!refusal_.ok()) return core.OnFailed(number, refusal_);
    if (answer_->has_ended()) return core.OnEnded(number);
    if (absl::IsDeadlineExceeded(rank_status_)) return core.OnDeadline(number);
    if (rank_status_.ok()) {
      return core.OnFailed(number, absl::InternalError("the stream ended without a result"));
    }
    // We did not cancel, so the rank did: it is stopping.
    if (absl::IsCancelled(rank_status_)) {
      return core.OnFailed(number, absl::UnavailableError("it is stopping"));
    }
    return core.OnFailed(number, rank_status_);
  });
}

void GenerateCall::TellTokens() {
  const int64_t count = answer_->num_tokens() - num_told_tokens_;
  if (count == 0) return;
  shared_.state->With([&](RouterCore& core) { return core.OnToken(options_.number, count); });
  num_told_tokens_ += count;
}

void GenerateCall::FinishWith(const absl::Status& status) {
  state_ = State::kFinished;
  shared_.calls->Leave(sequence_.request_id(), this);
  LogEnd(status);
  shared_.metrics->OnEnded(status, answer_.has_value() ? answer_->num_tokens() : 0,
                           absl::Now() - arrived_at_);
  AddTrailers(status, *context_);
  Finish(ToGrpcStatus(status));
}

void GenerateCall::LogEnd(const absl::Status& status) const {
  const std::string& id = sequence_.request_id();
  // What was refused before it had an id is the client's mistake, of which its answer says more.
  if (id.empty()) return LogInfo("request refused: ", absl::StatusCodeToString(status.code()));
  const int64_t num_tokens = answer_.has_value() ? answer_->num_tokens() : 0;
  const std::string what =
      absl::StrCat(num_tokens, " tokens in ",
                   absl::FormatDuration(absl::Trunc(absl::Now() - arrived_at_, kLoggedTime)));
  if (status.ok()) return LogInfo("request ", id, ": OK, ", what);
  LogWarning("request ", id, ": ", status.ToString(), "; ", what);
}

void GenerateCall::OnDone() {
  std::shared_ptr<GenerateCall> self;  // let go of outside the lock
  const std::lock_guard lock(mutex_);
  self = std::move(self_);
}

}  // namespace orrery
