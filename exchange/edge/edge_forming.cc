// How an edge comes up, and how it breaks.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "exchange/edge/edge.h"

namespace orrery {
namespace {

// Moved in each direction before an edge is up: NCCL connects two members when they first speak.
constexpr std::string_view kGreeting = "orrery";

absl::Status MeetAndGreet(const Half& half, std::string_view peer_words, absl::Duration timeout) {
  RETURN_IF_ERROR(half.out->Meet(peer_words));
  RETURN_IF_ERROR(half.in->Meet(peer_words));
  half.out->Send(kGreeting, timeout);
  return half.out->Advance(absl::Now());
}

}  // namespace

absl::Status Edge::OnInvite(const MessageView& message) {
  if (role_ != EdgeRole::kShard || state_ == State::kUp) {
    return absl::InvalidArgumentError(
        absl::StrCat("malformed message: an invitation of ", message.body.size(), " bytes to a ",
                     role_ == EdgeRole::kRank ? "rank" : "shard that is up"));
  }
  if (state_ == State::kForming) {
    BuryPipes();
    Transition(State::kWhole);
  }
  StartForming(message.header.attempt, absl::Now());
  peer_words_ = std::string(message.body);
  shared_->caretaker->Wake();
  return absl::OkStatus();
}

absl::Status Edge::OnOther(const MessageView& message) {
  switch (message.header.kind) {
    case MessageKind::kFreed:
      return absl::OkStatus();  // as every message says it
    case MessageKind::kAccept:
      peer_words_ = std::string(message.body);
      shared_->caretaker->Wake();
      return absl::OkStatus();
    case MessageKind::kGreeting:
      heard_greeting_ = true;
      shared_->caretaker->Wake();
      return absl::OkStatus();
    case MessageKind::kUp:
      heard_up_ = true;
      shared_->caretaker->Wake();
      return absl::OkStatus();
    case MessageKind::kDecline: {
      const absl::Status why =
          absl::UnavailableError(absl::StrCat("the other side says: ", std::string(message.body)));
      if (state_ == State::kUp) return why;
      StayWhole(absl::Now(), why);
      return absl::OkStatus();
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("malformed message: kind ", static_cast<int>(message.header.kind)));
  }
}

void Edge::StartForming(uint32_t attempt, absl::Time now) {
  attempt_ = attempt;
  num_told_ = 0;
  tell_at_ = absl::InfiniteFuture();
  peer_words_.reset();
  has_met_ = heard_greeting_ = said_up_ = heard_up_ = false;
  give_up_at_ = now + shared_->options.forming_timeout;
  Transition(State::kForming);
}

void Edge::Form(std::unique_lock<std::mutex>& lock, absl::Time now) {
  const uint32_t attempt = attempt_;
  const std::optional<std::string> peer_words = peer_words_;
  Half half = std::exchange(half_, {});
  const bool is_new = half.out == nullptr;
  // The carrier may take its time over this, and frames go on meanwhile.
  lock.unlock();
  absl::Status status;
  if (is_new) status = shared_->carrier->Make(role_, half);
  if (status.ok() && peer_words.has_value()) {
    status = MeetAndGreet(half, std::string_view(*peer_words), shared_->options.forming_timeout);
  }
  lock.lock();
  if (state_ != State::kForming || attempt_ != attempt) {
    shared_->undertaker->Bury(std::move(half.out));
    shared_->undertaker->Bury(std::move(half.in));
    return;
  }
  half_ = std::move(half);
  if (!status.ok()) {
    Decline(now, status);
    return;
  }
  has_met_ = peer_words.has_value();
  if (is_new) {
    SendMessage({.kind = role_ == EdgeRole::kRank ? MessageKind::kInvite : MessageKind::kAccept},
                std::string_view(half_.words));
  }
  if (has_met_) SendMessage({.kind = MessageKind::kGreeting}, {});
}

// Looked for once the other side has said that it sent it: before that, a one-sided carrier may show what others
// left in the slot.
bool Edge::HasGreeting(absl::Status& status) {
  if (!heard_greeting_) return false;
  if (half_.in->idle()) {
    half_.in->Receive(kGreeting.size(), shared_->options.forming_timeout);
    status = half_.in->Advance(absl::Now());
    if (!status.ok()) return false;
  }
  const std::optional<std::string_view> greeting = half_.in->Arrived();
  if (!greeting.has_value()) return false;
  if (*greeting != kGreeting) status = absl::UnavailableError("something else came than was sent");
  half_.in->Pop();
  return status.ok();
}

void Edge::AdvanceForming(absl::Time now) {
  absl::Status status;
  if (has_met_) status = AdvancePipes(now);
  if (status.ok() && has_met_ && !said_up_ && HasGreeting(status)) {
    said_up_ = true;
    SendMessage({.kind = MessageKind::kUp}, {});
  }
  if (status.ok() && said_up_ && heard_up_) {
    Transition(State::kUp);
    up_since_ = now;
    problem_.clear();
    LogInfo("exchange: rows go by ", std::string(shared_->carrier->name()), " to ", name_,
            ", not encrypted");
    return;
  }
  if (status.ok() && now >= give_up_at_) {
    status = absl::DeadlineExceededError(absl::StrCat(
        "did not form within ", absl::FormatDuration(shared_->options.forming_timeout)));
  }
  if (!status.ok()) Decline(now, status);
}

void Edge::Decline(absl::Time now, const absl::Status& why) {
  SendMessage({.kind = MessageKind::kDecline}, std::string_view(std::string(why.message())));
  StayWhole(now, why);
}

void Edge::StayWhole(absl::Time now, const absl::Status& why) {
  BuryPipes();
  Transition(State::kWhole);
  form_at_ = now + NextPause();
  problem_ = absl::StrCat("no ", std::string(shared_->carrier->name()),
                          " for now: ", std::string(why.message()));
  // Every attempt fails alike as long as the cause is there: the first is told.
  if (num_failures_++ == 0) LogWarning("exchange: ", name_, ": ", problem_);
}

void Edge::Settle(std::string_view peer_layer) {
  form_at_ = absl::InfiniteFuture();
  const std::string problem =
      absl::StrCat("this rank has ", shared_->carrier->terms(), ", the shard ",
                   peer_layer.empty() ? "nothing of the kind" : std::string(peer_layer));
  if (problem != problem_) LogWarning("exchange: ", name_, ": ", problem);
  problem_ = problem;
}

void Edge::Break(absl::Time now, const absl::Status& why) {
  if (state_ == State::kUp) {
    problem_ = absl::StrCat("lost ", std::string(shared_->carrier->name()), ": ",
                            std::string(why.message()));
    LogWarning("exchange: ", name_, ": ", problem_);
  }
  if (now - up_since_ > shared_->options.max_backoff) num_failures_ = 0;
  form_at_ = now + NextPause();
  ++num_failures_;
  Transition(State::kBroken);
  BuryPipes();
}

// Frames that wait for rows go with the pipes.
void Edge::BuryPipes() {
  shared_->undertaker->Bury(std::move(half_.out));
  shared_->undertaker->Bury(std::move(half_.in));
  arriving_.clear();
  arriving_bytes_ = 0;
}

absl::Duration Edge::NextPause() const {
  absl::Duration pause = shared_->options.min_backoff;
  for (int i = 0; i < num_failures_ && pause < shared_->options.max_backoff; ++i) pause *= 2;
  return std::min(pause, shared_->options.max_backoff);
}

}  // namespace orrery
