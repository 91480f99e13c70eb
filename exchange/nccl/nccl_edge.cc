#include "exchange/nccl/nccl_edge.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/log.h"

namespace orrery {
namespace {

// How soon to look again for rows that are about to come, and for what only has to be tidied up.
constexpr absl::Duration kLookForRows = absl::Microseconds(20);
constexpr absl::Duration kLookForEnds = absl::Milliseconds(2);
// Moved in each direction before an edge is up: NCCL connects two members when they first speak.
constexpr std::string_view kGreeting = "orrery";

}  // namespace

NcclEdge::NcclEdge(std::shared_ptr<const NcclShared> shared, Role role, std::string name)
    : shared_(std::move(shared)),
      role_(role),
      name_(std::move(name)),
      state_(role == Role::kRank ? State::kDown : State::kWhole) {
  shared_->caretaker->Add(this);
}

NcclEdge::~NcclEdge() {
  shared_->caretaker->Remove(this);
  below_.reset();  // a rank's may still say OnClosed, and nothing after that
  BuryPipes();
}

void NcclEdge::SetBelow(std::shared_ptr<Channel> below) {
  std::lock_guard lock(mutex_);
  below_ = std::move(below);
}

void NcclEdge::SetSink(std::shared_ptr<ChannelSink> sink) {
  std::lock_guard lock(mutex_);
  sink_ = std::move(sink);
}

void NcclEdge::Transition(State to) {
  const bool legal = (state_ == State::kDown && to == State::kWhole) ||
                     (state_ == State::kWhole && to == State::kForming) ||
                     (state_ == State::kForming && (to == State::kUp || to == State::kWhole)) ||
                     (state_ != State::kDown && state_ != State::kBroken && to == State::kBroken) ||
                     to == State::kDown;
  ORRERY_CHECK(legal) << name_ << ": from state " << static_cast<int>(state_) << " to "
                      << static_cast<int>(to);
  state_ = to;
}

bool NcclEdge::Send(std::string frame) {
  std::lock_guard lock(mutex_);
  if (below_ == nullptr || state_ == State::kDown || state_ == State::kBroken) return false;
  if (state_ == State::kUp) {
    const size_t num_row_bytes = NumRowBytes(std::string_view(frame));
    if (num_row_bytes > 0 && num_row_bytes >= shared_->options.min_row_bytes) {
      if (!out_->HasRoom()) {
        const absl::Status status = out_->Advance(absl::Now());
        if (!status.ok()) {
          Break(absl::Now(), status);
          return true;  // as in SendRows
        }
      }
      if (out_->HasRoom()) return SendRows(std::string_view(frame), num_row_bytes);
    }
  }
  return below_->Send(std::move(frame));
}

bool NcclEdge::SendRows(std::string_view frame, size_t num_row_bytes) {
  const std::string_view head = frame.substr(0, frame.size() - num_row_bytes);
  const MessageHeader header{.kind = MessageKind::kRows,
                             .attempt = attempt_,
                             .nccl_version = static_cast<uint32_t>(shared_->nccl_version),
                             .num_row_bytes = num_row_bytes};
  if (!below_->Send(EncodeMessage(header, head))) return false;
  out_->Send(frame.substr(head.size()), shared_->options.operation_timeout);
  const absl::Status status = out_->Advance(absl::Now());
  if (!status.ok()) Break(absl::Now(), status);
  shared_->caretaker->Wake();
  return true;  // accepted; if the edge broke, OnClosed follows
}

void NcclEdge::SendMessage(MessageKind kind, std::string_view body) {
  const MessageHeader header{.kind = kind,
                             .attempt = attempt_,
                             .nccl_version = static_cast<uint32_t>(shared_->nccl_version)};
  // If it cannot be sent, the connection is at its end, or the other side gives up in time.
  below_->Send(EncodeMessage(header, body));
}

void NcclEdge::Decline(const absl::Status& why) {
  SendMessage(MessageKind::kDecline, std::string_view(std::string(why.message())));
}

void NcclEdge::Close(const absl::Status& why) {
  std::shared_ptr<Channel> below;
  {
    std::lock_guard lock(mutex_);
    below = below_;
  }
  if (below != nullptr) below->Close(why);
}

void NcclEdge::Reset(const absl::Status& why) {
  std::lock_guard lock(mutex_);
  if (state_ != State::kDown && state_ != State::kBroken) Break(absl::Now(), why);
}

std::string_view NcclEdge::carrier() const {
  std::lock_guard lock(mutex_);
  if (state_ == State::kUp) return "nccl";
  return below_ == nullptr ? std::string_view() : below_->carrier();
}

void NcclEdge::OnOpen() {
  std::shared_ptr<ChannelSink> sink;
  {
    std::lock_guard lock(mutex_);
    Transition(State::kWhole);
    sink = sink_;
  }
  shared_->caretaker->Wake();
  sink->OnOpen();
}

void NcclEdge::OnClosed(const absl::Status& why) {
  std::shared_ptr<ChannelSink> sink;
  {
    std::unique_lock lock(mutex_);
    Transition(State::kDown);
    BuryPipes();
    // No frame of this connection after its end.
    delivered_.wait(lock, [this] { return !delivering_; });
    sink = sink_;
    if (role_ == Role::kShard) sink_ = nullptr;  // it owns this edge until now, and this edge it
  }
  sink->OnClosed(why);
}

absl::Status NcclEdge::OnFrame(std::string frame) {
  std::unique_lock lock(mutex_);
  if (state_ == State::kDown || state_ == State::kBroken) return absl::OkStatus();
  if (IsMessage(std::string_view(frame))) {
    RETURN_IF_ERROR(OnMessage(std::string_view(frame)));
  } else {
    arriving_bytes_ += frame.size();
    arriving_.push_back({.frame = std::move(frame)});
  }
  if (arriving_bytes_ > shared_->options.max_queued_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(arriving_bytes_, " bytes of frames wait for rows, the limit is ",
                     shared_->options.max_queued_bytes));
  }
  return Deliver(lock);
}

absl::Status NcclEdge::OnMessage(std::string_view bytes) {
  ASSIGN_OR_RETURN(const MessageView message, ParseMessage(bytes));
  if (message.header.kind == MessageKind::kInvite) return OnInvite(message);
  if (message.header.kind == MessageKind::kRows) return OnRows(message);
  if (message.header.attempt != attempt_ || state_ == State::kWhole) {
    return absl::OkStatus();  // of an attempt that this side has given up
  }
  if (message.header.kind == MessageKind::kUp) {
    heard_up_ = true;
    shared_->caretaker->Wake();
    return absl::OkStatus();
  }
  if (message.header.kind == MessageKind::kDecline) {
    const absl::Status why =
        absl::UnavailableError(absl::StrCat("the other side says: ", std::string(message.body)));
    if (state_ == State::kUp) return why;
    StayWhole(absl::Now(), why);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("malformed message: kind ", static_cast<int>(message.header.kind)));
}

absl::Status NcclEdge::OnInvite(const MessageView& message) {
  if (role_ != Role::kShard || state_ == State::kUp || message.body.size() != sizeof(Ids)) {
    return absl::InvalidArgumentError(absl::StrCat("malformed message: an invitation of ",
                                                   message.body.size(), " bytes in state ",
                                                   static_cast<int>(state_)));
  }
  const absl::Time now = absl::Now();
  if (state_ == State::kForming) {
    BuryPipes();
    Transition(State::kWhole);
  }
  StartForming(message.header.attempt, now);
  if (message.header.nccl_version != static_cast<uint32_t>(shared_->nccl_version)) {
    const absl::Status status = absl::FailedPreconditionError(absl::StrCat(
        "the shard has NCCL ", NcclVersionText(shared_->nccl_version), ", the rank NCCL ",
        NcclVersionText(static_cast<int>(message.header.nccl_version))));
    Decline(status);
    StayWhole(now, status);
  } else {
    std::memcpy(&invited_, message.body.data(), sizeof(invited_));
    shared_->caretaker->Wake();
  }
  return absl::OkStatus();
}

absl::Status NcclEdge::OnRows(const MessageView& message) {
  // In kForming, both have said kUp, and the caretaker has not looked yet.
  const bool can_come = in_ != nullptr && heard_up_ && message.header.attempt == attempt_;
  if (!can_come || message.header.num_row_bytes == 0) {
    return absl::UnavailableError(
        absl::StrCat("rows follow by NCCL (attempt ", message.header.attempt, ", ",
                     message.header.num_row_bytes, " bytes), which is not up here"));
  }
  if (state_ == State::kForming) AdvanceForming(absl::Now());
  if (state_ != State::kUp) return absl::UnavailableError("NCCL is not up here");
  arriving_bytes_ += message.body.size() + message.header.num_row_bytes;
  arriving_.push_back({.frame = std::string(message.body), .rows_follow = true});
  in_->Receive(message.header.num_row_bytes, shared_->options.operation_timeout);
  shared_->caretaker->Wake();
  return in_->Advance(absl::Now());
}

absl::Status NcclEdge::Deliver(std::unique_lock<std::mutex>& lock) {
  if (delivering_) return absl::OkStatus();
  delivering_ = true;
  absl::Status status;
  while (status.ok() && !arriving_.empty()) {
    Arriving& front = arriving_.front();
    if (front.rows_follow) {
      const std::optional<std::string_view> rows = in_->Arrived();
      if (!rows.has_value()) break;
      front.frame.append(*rows);
      in_->Pop();
    }
    std::string frame = std::move(front.frame);
    arriving_bytes_ -= frame.size();
    arriving_.pop_front();
    const std::shared_ptr<ChannelSink> sink = sink_;
    lock.unlock();
    status = sink->OnFrame(std::move(frame));
    lock.lock();
  }
  delivering_ = false;
  delivered_.notify_all();
  return status;
}

absl::Time NcclEdge::TakeCare(absl::Time now) {
  std::unique_lock lock(mutex_);
  if (below_ == nullptr) return now + kLookForEnds;
  switch (state_) {
    case State::kWhole:
      if (role_ == Role::kShard) return absl::InfiniteFuture();
      if (now < form_at_) return form_at_;
      StartForming(attempt_ + 1, now);
      [[fallthrough]];
    case State::kForming:
      if (out_ == nullptr) {
        Form(lock, now);
      } else {
        AdvanceForming(now);
      }
      return now + kLookForEnds;
    case State::kUp: {
      absl::Status status = AdvancePipes(now);
      if (status.ok()) status = Deliver(lock);
      if (!status.ok() && state_ != State::kDown && state_ != State::kBroken) Break(now, status);
      if (state_ != State::kUp) return absl::InfiniteFuture();
      if (!arriving_.empty()) return now + kLookForRows;
      return out_->idle() ? absl::InfiniteFuture() : now + kLookForEnds;
    }
    case State::kDown:
    case State::kBroken:
      break;
  }
  return absl::InfiniteFuture();
}

void NcclEdge::StartForming(uint32_t attempt, absl::Time now) {
  attempt_ = attempt;
  said_up_ = heard_up_ = false;
  give_up_at_ = now + shared_->options.forming_timeout;
  Transition(State::kForming);
}

void NcclEdge::Form(std::unique_lock<std::mutex>& lock, absl::Time now) {
  const uint32_t attempt = attempt_;
  Ids ids = invited_;
  // NCCL may take its time over this, and frames go on meanwhile.
  lock.unlock();
  absl::Status status;
  if (role_ == Role::kRank) status = MakeIds(ids);
  std::unique_ptr<Pipe> out, in;
  if (status.ok()) status = MakePipes(ids, out, in);
  lock.lock();
  if (state_ != State::kForming || attempt_ != attempt) {
    shared_->undertaker->Bury(std::move(out));
    shared_->undertaker->Bury(std::move(in));
    return;
  }
  out_ = std::move(out);
  in_ = std::move(in);
  if (!status.ok()) {
    if (role_ == Role::kShard) Decline(status);
    StayWhole(now, status);
  } else if (role_ == Role::kRank) {
    SendMessage(MessageKind::kInvite,
                std::string_view(reinterpret_cast<const char*>(&ids), sizeof(ids)));
  }
}

absl::Status NcclEdge::MakeIds(Ids& ids) {
  ASSIGN_OR_RETURN(ids.to_shard, Communicator::MakeId());
  ASSIGN_OR_RETURN(ids.to_rank, Communicator::MakeId());
  return absl::OkStatus();
}

absl::Status NcclEdge::MakePipes(const Ids& ids, std::unique_ptr<Pipe>& out,
                                 std::unique_ptr<Pipe>& in) const {
  const NcclOptions& options = shared_->options;
  const auto make = [&](const NcclId& id,
                        Direction direction) -> absl::StatusOr<std::unique_ptr<Pipe>> {
    ASSIGN_OR_RETURN(Slots slots, shared_->slots->Take(kSlotsPerEdge / 2));
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> communicator,
                     Communicator::Start({.id = id,
                                          .direction = direction,
                                          .device_index = options.device_index,
                                          .num_slots = static_cast<int>(slots.size())}));
    return std::make_unique<Pipe>(direction, std::move(communicator), std::move(slots));
  };
  const bool is_rank = role_ == Role::kRank;
  ASSIGN_OR_RETURN(out, make(is_rank ? ids.to_shard : ids.to_rank, Direction::kSend));
  ASSIGN_OR_RETURN(in, make(is_rank ? ids.to_rank : ids.to_shard, Direction::kReceive));
  out->Send(kGreeting, options.forming_timeout);
  in->Receive(kGreeting.size(), options.forming_timeout);
  return absl::OkStatus();
}

absl::Status NcclEdge::AdvancePipes(absl::Time now) {
  RETURN_IF_ERROR(out_->Advance(now));
  return in_->Advance(now);
}

void NcclEdge::AdvanceForming(absl::Time now) {
  absl::Status status = AdvancePipes(now);
  if (status.ok() && !said_up_ && out_->idle()) {
    if (const std::optional<std::string_view> greeting = in_->Arrived()) {
      if (*greeting == kGreeting) {
        in_->Pop();
        said_up_ = true;
        SendMessage(MessageKind::kUp, {});
      } else {
        status = absl::UnavailableError("NCCL brought something else than was sent");
      }
    }
  }
  if (status.ok() && said_up_ && heard_up_) {
    Transition(State::kUp);
    up_since_ = now;
    LogInfo("exchange: rows go by NCCL to ", name_, ", not encrypted");
    return;
  }
  if (status.ok() && now >= give_up_at_) {
    status = absl::DeadlineExceededError(absl::StrCat(
        "did not form within ", absl::FormatDuration(shared_->options.forming_timeout)));
  }
  if (status.ok()) return;
  Decline(status);
  StayWhole(now, status);
}

void NcclEdge::StayWhole(absl::Time now, const absl::Status& why) {
  BuryPipes();
  Transition(State::kWhole);
  form_at_ = now + NextPause();
  // Every attempt fails alike as long as the cause is there: the first is told.
  if (num_failures_++ == 0) {
    LogWarning("exchange: no NCCL to ", name_, " for now: ", why.ToString());
  }
}

void NcclEdge::Break(absl::Time now, const absl::Status& why) {
  LogWarning("exchange: lost NCCL to ", name_, ": ", why.ToString());
  if (now - up_since_ > shared_->options.max_backoff) num_failures_ = 0;
  form_at_ = now + NextPause();
  ++num_failures_;
  Transition(State::kBroken);
  BuryPipes();
  below_->Reset(why);
}

// Frames that wait for rows go with the pipes.
void NcclEdge::BuryPipes() {
  shared_->undertaker->Bury(std::move(out_));
  shared_->undertaker->Bury(std::move(in_));
  arriving_.clear();
  arriving_bytes_ = 0;
}

absl::Duration NcclEdge::NextPause() const {
  absl::Duration pause = shared_->options.min_backoff;
  for (int i = 0; i < num_failures_ && pause < shared_->options.max_backoff; ++i) pause *= 2;
  return std::min(pause, shared_->options.max_backoff);
}

}  // namespace orrery
