#include "exchange/grpc/grpc_rank_channel.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/log.h"
#include "exchange/grpc/metadata.h"
#include "exchange/grpc/sealed_frame.h"
#include "rpc/status.h"

namespace orrery {

namespace {

// How long after its last read a stream may take to end.
constexpr absl::Duration kEndTime = absl::Milliseconds(100);

}  // namespace

// One call. A read is pending from start to end, so its failure is the one sign that the call is
// over, or that what came is no message: of this gRPC (1.51) tells nobody, and the call would go on.
class GrpcRankChannel::Stream : public grpc::ClientBidiReactor<internal::Frame, internal::Frame> {
 public:
  explicit Stream(GrpcRankChannel* owner)
      : owner_(owner), stub_(internal::Expert::NewStub(owner->target_.member->Now())) {
    context_.set_wait_for_ready(true);
    context_.AddMetadata(kLaneMetadata, std::string(LaneName(owner->target_.lane)));
    context_.AddMetadata(kRankMetadata, owner->options_.rank_name);
    context_.AddMetadata(kShardMetadata, owner->target_.peer_name);
  }

  void Open() {
    stub_->async()->Exchange(&context_, this);
    AddHold();  // Send writes from outside of reactions; released when the read fails
    StartRead(&incoming_);
    StartCall();
  }
  void Cancel() { context_.TryCancel(); }

  // What it would check, that nothing else came with trailers, ends the process (gRPC 1.51) where a bit flipped on
  // the way to make it untrue. Here nothing follows from it: a refusal is known by its metadata.
  bool InternalTrailersOnly(const grpc_call*) const override { return false; }
  void OnReadInitialMetadataDone(bool ok) override {
    if (!ok) return;
    const auto& metadata = context_.GetServerInitialMetadata();
    const auto accepted = metadata.find(kAcceptedMetadata);
    if (accepted == metadata.end()) return;
    const auto layer = metadata.find(kLayerMetadata);
    owner_->OnAccepted(accepted->second == kAnswersKnocks,
                       layer == metadata.end()
                           ? std::string()
                           : std::string(layer->second.data(), layer->second.size()));
  }
  void OnReadDone(bool ok) override {
    if (ok) {
      owner_->OnFrame(unsealer_.Unseal(incoming_));
      StartRead(&incoming_);
    } else {
      owner_->OnReadFailed();
      RemoveHold();
    }
  }
  void OnWriteDone(bool ok) override { owner_->OnWriteDone(ok); }
  // The context refers to the grpc::Channel, which its owner may let go of as soon as it learns that the stream has
  // ended: so the context goes before.
  void OnDone(const grpc::Status& status) override {
    GrpcRankChannel* const owner = owner_;
    const grpc::Status final_status = status;
    owner->Forget();
    delete this;
    owner->OnDone(final_status);  // the owner may be gone when this returns
  }

 private:
  GrpcRankChannel* const owner_;
  const std::unique_ptr<internal::Expert::Stub> stub_;  // over the best way of this attempt
  grpc::ClientContext context_;
  internal::Frame incoming_;
  Unsealer unsealer_;
};

GrpcRankChannel::GrpcRankChannel(const GrpcRankOptions& options, Target target,
                                 std::shared_ptr<Caretaker> caretaker, ChannelSink* sink)
    : options_(options),
      target_(std::move(target)),
      log_name_(absl::StrCat(target_.peer_name, " (", std::string(LaneName(target_.lane)), ")")),
      caretaker_(std::move(caretaker)),
      sink_(sink),
      queue_(options.exchange.max_queued_bytes),
      jitter_(static_cast<uint32_t>(std::hash<std::string>()(options.rank_name + log_name_))) {
  caretaker_->Add(this);
}

GrpcRankChannel::~GrpcRankChannel() {
  Close(absl::CancelledError("the rank closes"));
  caretaker_->Remove(this);
  std::unique_lock lock(mutex_);
  // Not a wait without end: gRPC promises OnDone after a cancellation, whatever the network does.
  ended_.wait(lock, [&] { return state_ == State::kClosed; });
}

bool GrpcRankChannel::Send(std::string frame) {
  internal::Frame sealed = Seal(std::move(frame));
  std::lock_guard lock(mutex_);
  if (state_ != State::kOpen || !queue_.Push(std::move(sealed))) return false;
  WriteNext();
  return true;
}

void GrpcRankChannel::Close(const absl::Status&) {
  std::lock_guard lock(mutex_);
  closing_ = true;
  if (stream_ != nullptr) stream_->Cancel();
  if (state_ == State::kPausing) Transition(State::kClosed);
}

void GrpcRankChannel::Reset(const absl::Status&) {
  std::lock_guard lock(mutex_);
  if (stream_ != nullptr) stream_->Cancel();
}

void GrpcRankChannel::Knock() {
  std::lock_guard lock(mutex_);
  if (state_ != State::kOpen || !answers_knocks_ || !queue_.Push(Seal(MakeKnock()))) return;
  WriteNext();
}

std::string GrpcRankChannel::peer_layer() const {
  std::lock_guard lock(mutex_);
  return peer_layer_;
}

std::string_view GrpcRankChannel::carrier() const {
  std::lock_guard lock(mutex_);
  return state_ == State::kOpen ? "grpc" : "";
}

absl::Time GrpcRankChannel::TakeCare(absl::Time now) {
  std::lock_guard lock(mutex_);
  switch (state_) {
    case State::kPausing:
      if (now < open_at_) return open_at_;
      Start(now);
      return give_up_at_;
    case State::kOpening:
      if (now >= give_up_at_) stream_->Cancel();
      return std::max(give_up_at_, now + absl::Seconds(1));
    case State::kEnding:
      if (stream_ == nullptr) break;
      if (now < give_up_at_) return give_up_at_;
      stream_->Cancel();
      break;
    case State::kOpen:
      if (now - knocking_since_ >= options_.knock_timeout) {
        LogWarning("exchange: ", log_name_, " answered no knock for ",
                   absl::FormatDuration(options_.knock_timeout), ", it counts as lost");
        knocking_since_ = absl::InfiniteFuture();
        stream_->Cancel();
      }
      if (now - queue_.writing_since() >= options_.write_timeout) {
        LogWarning("exchange: ", log_name_, " took no frame for ",
                   absl::FormatDuration(options_.write_timeout), ", it counts as lost");
        stream_->Cancel();
      }
      // The caretaker looks often enough for the next write.
      return knocking_since_ + options_.knock_timeout;
    case State::kClosed:
      break;
  }
  return absl::InfiniteFuture();
}

void GrpcRankChannel::Transition(State to) {
  const bool legal =
      (state_ == State::kPausing && (to == State::kOpening || to == State::kClosed)) ||
      (state_ == State::kOpening && (to == State::kOpen || to == State::kEnding)) ||
      (state_ == State::kOpen && to == State::kEnding) ||
      (state_ == State::kEnding && (to == State::kPausing || to == State::kClosed));
  ORRERY_CHECK(legal) << log_name_ << ": from state " << static_cast<int>(state_) << " to "
                      << static_cast<int>(to);
  state_ = to;
}

void GrpcRankChannel::Start(absl::Time now) {
  Transition(State::kOpening);
  give_up_at_ = now + options_.connect_timeout;
  was_open_ = false;
  if (num_failures_ > 0) {
    if (std::shared_ptr<MemberChannel> member = target_.renew()) target_.member = std::move(member);
  }
  stream_ = new Stream(this);
  stream_->Open();
}

void GrpcRankChannel::WriteNext() {
  const internal::Frame* const frame = queue_.StartNext();
  if (frame == nullptr) return;
  if (IsKnock(frame->payload()) && knocking_since_ == absl::InfiniteFuture()) {
    knocking_since_ = absl::Now();
    caretaker_->Wake();
  }
  stream_->StartWrite(frame);
}

absl::Duration GrpcRankChannel::NextPause() {
  absl::Duration pause = options_.min_backoff;
  for (int i = 1; i < num_failures_ && pause < options_.max_backoff; ++i) pause *= 2;
  pause = std::min(pause, options_.max_backoff);
  return pause * std::uniform_real_distribution<double>(0.5, 1.0)(jitter_);
}

void GrpcRankChannel::OnAccepted(bool answers_knocks, std::string peer_layer) {
  {
    std::lock_guard lock(mutex_);
    if (state_ != State::kOpening) return;
    Transition(State::kOpen);
    was_open_ = true;
    num_failures_ = 0;
    answers_knocks_ = answers_knocks;
    knocking_since_ = absl::InfiniteFuture();
    peer_layer_ = std::move(peer_layer);
  }
  LogInfo("exchange: connected to ", log_name_);
  sink_->OnOpen();
}

void GrpcRankChannel::OnFrame(absl::StatusOr<std::string> frame) {
  if (frame.ok()) HearPeer(IsKnock(*frame));
  if (frame.ok() && IsKnock(*frame)) return;  // nothing was lost up to here
  const absl::Status status = frame.ok() ? sink_->OnFrame(*std::move(frame)) : frame.status();
  if (status.ok()) return;
  LogWarning("exchange: ", log_name_, ": ", status.ToString());
  std::lock_guard lock(mutex_);
  stream_->Cancel();
}

// On a slow way the answer to a knock may be long behind others: as long as those come, all is well.
void GrpcRankChannel::HearPeer(bool answers_knock) {
  std::lock_guard lock(mutex_);
  if (knocking_since_ == absl::InfiniteFuture()) return;
  knocking_since_ = answers_knock ? absl::InfiniteFuture() : absl::Now();
}

void GrpcRankChannel::OnReadFailed() {
  std::lock_guard lock(mutex_);
  Transition(State::kEnding);
  queue_.Clear();
  give_up_at_ = absl::Now() + kEndTime;
  caretaker_->Wake();
}

void GrpcRankChannel::OnWriteDone(bool ok) {
  std::lock_guard lock(mutex_);
  queue_.WriteDone();
  if (ok && state_ == State::kOpen) WriteNext();
}

void GrpcRankChannel::Forget() {
  std::lock_guard lock(mutex_);
  stream_ = nullptr;
}

void GrpcRankChannel::OnDone(const grpc::Status& grpc_status) {
  const absl::Status status = grpc_status.ok()
                                  ? absl::UnavailableError("the shard ended the stream")
                                  : FromGrpcStatus(grpc_status);
  bool was_open, first_failure, closing;
  {
    std::lock_guard lock(mutex_);
    was_open = was_open_;
    closing = closing_;
    first_failure = num_failures_++ == 0;
  }
  // Every attempt of a long outage fails alike: the first is told.
  if (first_failure && !closing) {
    LogWarning("exchange: ", was_open ? "lost " : "cannot reach ", log_name_, ": ",
               status.ToString());
  }
  if (was_open) sink_->OnClosed(status);
  std::lock_guard lock(mutex_);
  Transition(closing_ ? State::kClosed : State::kPausing);
  open_at_ = absl::Now() + NextPause();
  caretaker_->Wake();
  ended_.notify_all();
}

}  // namespace orrery
