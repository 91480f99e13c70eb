#include "services/router/generate_call.h"

#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "rpc/deadline.h"
#include "rpc/status.h"
#include "services/router/raw_message.h"

namespace orrery {
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

  void OnReadDone(bool ok) override { call_->OnRead(ok ? &event_ : nullptr); }
  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<GenerateCall> call = call_;  // this is gone when it returns
    call->OnRankDone(FromGrpcStatus(status));
  }

 private:
  const std::shared_ptr<GenerateCall> call_;
  std::unique_ptr<internal::Attention::Stub> stub_;
  grpc::ClientContext context_;
  internal::SequenceEvent event_;
};

GenerateCall::GenerateCall(grpc::CallbackServerContext* context, const Shared& shared)
    : context_(context), shared_(shared) {}

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
  const Action action = shared_.state->With(
      [this](RouterCore& core) { return core.OnRequest(options_.number, sequence_.tenant()); });
  if (action.kind == Action::Kind::kFinish) return FinishWith(action.status);

  state_ = State::kRunning;
  answer_.emplace(shared_.model, sequence_, options_.answer);
  if (DeadlineOf(*context_) > options_.deadline) {
    overdue_.Set(absl::ToChronoTime(options_.cut_off), [weak = weak_from_this()](bool has_passed) {
      const std::shared_ptr<GenerateCall> call = weak.lock();
      if (has_passed && call != nullptr) call->OnOverdue();
    });
  }
  v1::GenerateResponse response;
  v1::Started& started = *response.mutable_started();
  started.set_request_id(sequence_.request_id());
  started.set_model(shared_.model->name);
  started.set_seed(sequence_.sampling().seed());
  started.set_prompt_tokens(sequence_.prompt_ids_size());
  Send(response);
  StartOn(action.member);
}

void GenerateCall::Refuse(const absl::Status& why) {
  const std::lock_guard lock(mutex_);
  FinishWith(why);
}

bool GenerateCall::is_cancelled() {
  const std::lock_guard lock(mutex_);
  return is_cancelled_;
}

void GenerateCall::StartOn(int member) {
  rank_ = std::make_unique<RankCall>(shared_from_this(), options_.deadline);
  refusal_ = absl::OkStatus();
  rank_->Start(*shared_.ranks->at(member), sequence_);
  if (is_cancelled_) rank_->Cancel();  // since the last attempt, or since it was accepted
}

void GenerateCall::OnRead(const internal::SequenceEvent* event) {
  const std::lock_guard lock(mutex_);
  if (event == nullptr || is_cancelled_ || !Take(*event)) {
    rank_->StopReading();
  } else if (pending_.size() >= kMaxPending) {
    is_paused_ = true;
  } else {
    rank_->Read();
  }
}

bool GenerateCall::Take(const internal::SequenceEvent& event) {
  v1::GenerateResponse response;
  refusal_ = answer_->Translate(event, response);
  if (!refusal_.ok()) {
    rank_->Cancel();
    return false;
  }
  if (answer_->num_tokens() == 1) TellTokens();
  if (response.event_case() != v1::GenerateResponse::EVENT_NOT_SET) Send(response);
  return !answer_->has_ended();
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
  StartWrite(&pending_.front(), options);
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

void GenerateCall::OnOverdue() {
  const std::lock_guard lock(mutex_);
  if (state_ == State::kFinished) return;
  is_overdue_ = true;
  context_->TryCancel();  // OnCancel follows
}

void GenerateCall::Cancel() {
  is_cancelled_ = true;
  pending_.resize(is_writing_ ? 1 : 0);  // what gRPC is writing must stay
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
  if (rank_ != nullptr || !pending_.empty()) return;
  TellTokens();
  const Action action = TellEnd();
  if (action.kind == Action::Kind::kStart) {
    StartOn(action.member);
  } else {
    FinishWith(action.status);
  }
}

Action GenerateCall::TellEnd() {
  return shared_.state->With([this](RouterCore& core) {
    const int64_t number = options_.number;
    if (is_overdue_) return core.OnDeadline(number);
    if (is_cancelled_) return core.OnCancelled(number);
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
  // What was refused before it had an id is the client's mistake, and its answer says so.
  if (!status.ok() && !sequence_.request_id().empty()) {
    LogWarning("request ", sequence_.request_id(), ": ", status.ToString());
  }
  Finish(ToGrpcStatus(status));
}

void GenerateCall::OnDone() {
  std::shared_ptr<GenerateCall> self;  // let go of outside the lock
  const std::lock_guard lock(mutex_);
  self = std::move(self_);
}

}  // namespace orrery
