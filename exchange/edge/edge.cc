#include "exchange/edge/edge.h"

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
// So many slots may be free, and so long, without the sender knowing it: mostly the rows of a reply tell it for
// nothing.
constexpr uint64_t kMaxUntold = kSlotsPerPipe / 2;
constexpr absl::Duration kTellWithin = absl::Milliseconds(20);

}  // namespace

Edge::Edge(std::shared_ptr<const EdgeShared> shared, EdgeRole role, std::string name)
    : shared_(std::move(shared)),
      role_(role),
      name_(std::move(name)),
      state_(role == EdgeRole::kRank ? State::kDown : State::kWhole) {
  shared_->caretaker->Add(this);
}

Edge::~Edge() {
  shared_->caretaker->Remove(this);
  below_.reset();  // a rank's may still say OnClosed, and nothing after that
  BuryPipes();
}

void Edge::SetBelow(std::shared_ptr<Channel> below) {
  std::lock_guard lock(mutex_);
  below_ = std::move(below);
}

void Edge::SetSink(std::shared_ptr<ChannelSink> sink) {
  std::lock_guard lock(mutex_);
  sink_ = std::move(sink);
}

void Edge::Transition(State to) {
  const bool legal = (state_ == State::kDown && to == State::kWhole) ||
                     (state_ == State::kWhole && to == State::kForming) ||
                     (state_ == State::kForming && (to == State::kUp || to == State::kWhole)) ||
                     (IsOpen() && to == State::kBroken) || to == State::kDown;
  ORRERY_CHECK(legal) << name_ << ": from state " << static_cast<int>(state_) << " to "
                      << static_cast<int>(to);
  state_ = to;
}

bool Edge::Send(std::string frame) {
  std::lock_guard lock(mutex_);
  if (below_ == nullptr || !IsOpen()) return false;
  if (state_ == State::kUp) {
    const size_t num_row_bytes = NumRowBytes(std::string_view(frame));
    if (num_row_bytes > 0 && num_row_bytes >= shared_->options.min_row_bytes) {
      if (!half_.out->HasRoom()) {
        const absl::Status status = half_.out->Advance(absl::Now());
        if (!status.ok()) {
          Break(absl::Now(), status);
          below_->Reset(status);
          return true;  // as in SendRows
        }
      }
      if (half_.out->HasRoom()) return SendRows(std::string_view(frame), num_row_bytes);
    }
  }
  return below_->Send(std::move(frame));
}

// The rows before the words: a receiver that has heard of them may look for them.
bool Edge::SendRows(std::string_view frame, size_t num_row_bytes) {
  const std::string_view head = frame.substr(0, frame.size() - num_row_bytes);
  const std::string_view rows = frame.substr(head.size());
  half_.out->Send(rows, shared_->options.operation_timeout);
  absl::Status status = half_.out->Advance(absl::Now());
  if (status.ok() &&
      !SendMessage(
          {.kind = MessageKind::kRows, .num_row_bytes = num_row_bytes, .rows_hash = RowsHash(rows)},
          head)) {
    status = absl::ResourceExhaustedError("the channel does not take the words for rows under way");
  }
  if (!status.ok()) {
    Break(absl::Now(), status);
    below_->Reset(status);
  }
  shared_->caretaker->Wake();
  return true;  // accepted; if the edge broke, OnClosed follows
}

bool Edge::SendMessage(MessageHeader header, std::string_view body) {
  header.attempt = attempt_;
  if (half_.in != nullptr) header.num_freed = num_told_ = half_.in->num_popped();
  tell_at_ = absl::InfiniteFuture();
  return below_->Send(EncodeMessage(header, body));
}

void Edge::Close(const absl::Status& why) {
  std::shared_ptr<Channel> below;
  {
    std::lock_guard lock(mutex_);
    below = below_;
  }
  if (below != nullptr) below->Close(why);
}

void Edge::Reset(const absl::Status& why) {
  std::lock_guard lock(mutex_);
  if (!IsOpen() || below_ == nullptr) return;
  Break(absl::Now(), why);
  below_->Reset(why);
}

void Edge::Knock() {
  std::lock_guard lock(mutex_);
  if (IsOpen() && below_ != nullptr) below_->Knock();
}

std::string_view Edge::carrier() const {
  std::lock_guard lock(mutex_);
  if (state_ == State::kUp) return shared_->carrier->name();
  return below_ == nullptr ? std::string_view() : below_->carrier();
}

std::string Edge::carrier_problem() const {
  std::lock_guard lock(mutex_);
  return problem_;
}

void Edge::OnOpen() {
  std::shared_ptr<ChannelSink> sink;
  {
    std::lock_guard lock(mutex_);
    Transition(State::kWhole);
    // Another shard, maybe.
    if (form_at_ == absl::InfiniteFuture()) form_at_ = absl::InfinitePast();
    sink = sink_;
  }
  shared_->caretaker->Wake();
  sink->OnOpen();
}

void Edge::OnClosed(const absl::Status& why) {
  std::shared_ptr<ChannelSink> sink;
  {
    std::unique_lock lock(mutex_);
    Transition(State::kDown);
    BuryPipes();
    // No frame of this connection after its end.
    delivered_.wait(lock, [this] { return !delivering_; });
    sink = sink_;
    // It owns this edge until now, and this edge it.
    if (role_ == EdgeRole::kShard) sink_ = nullptr;
  }
  sink->OnClosed(why);
}

absl::Status Edge::OnFrame(std::string frame) {
  std::unique_lock lock(mutex_);
  if (!IsOpen()) return absl::OkStatus();
  absl::Status status;
  if (IsMessage(std::string_view(frame))) {
    status = OnMessage(std::string_view(frame));
  } else {
    arriving_bytes_ += frame.size();
    arriving_.push_back({.frame = std::move(frame)});
  }
  if (status.ok() && arriving_bytes_ > shared_->options.max_queued_bytes) {
    status = absl::ResourceExhaustedError(
        absl::StrCat(arriving_bytes_, " bytes of frames wait for rows, the limit is ",
                     shared_->options.max_queued_bytes));
  }
  if (status.ok()) status = Deliver(lock);
  if (!status.ok() && IsOpen()) Break(absl::Now(), status);
  return status;
}

absl::Status Edge::OnMessage(std::string_view bytes) {
  ASSIGN_OR_RETURN(const MessageView message, ParseMessage(bytes));
  if (message.header.kind == MessageKind::kInvite) return OnInvite(message);
  const bool is_current = message.header.attempt == attempt_ && state_ != State::kWhole;
  if (is_current && half_.out != nullptr) {
    RETURN_IF_ERROR(half_.out->Freed(message.header.num_freed));
  }
  if (message.header.kind == MessageKind::kRows) return OnRows(message);
  if (!is_current) return absl::OkStatus();  // of an attempt that this side has given up
  return OnOther(message);
}

absl::Status Edge::OnRows(const MessageView& message) {
  // In kForming, both have said kUp, and the caretaker has not looked yet.
  const bool can_come = half_.in != nullptr && heard_up_ && message.header.attempt == attempt_;
  if (!can_come || message.header.num_row_bytes == 0) {
    return absl::UnavailableError(
        absl::StrCat("rows follow by ", std::string(shared_->carrier->name()), " (attempt ",
                     message.header.attempt, ", ", message.header.num_row_bytes,
                     " bytes), which is not up here"));
  }
  if (state_ == State::kForming) AdvanceForming(absl::Now());
  if (state_ != State::kUp) return absl::UnavailableError("rows follow, but could not be met");
  arriving_bytes_ += message.body.size() + message.header.num_row_bytes;
  arriving_.push_back({.frame = std::string(message.body),
                       .rows_follow = true,
                       .rows_hash = message.header.rows_hash});
  half_.in->Receive(message.header.num_row_bytes, shared_->options.operation_timeout);
  shared_->caretaker->Wake();
  return half_.in->Advance(absl::Now());
}

absl::Status Edge::Deliver(std::unique_lock<std::mutex>& lock) {
  if (delivering_) return absl::OkStatus();
  delivering_ = true;
  absl::Status status;
  while (status.ok() && !arriving_.empty()) {
    Arriving& front = arriving_.front();
    if (front.rows_follow) {
      const std::optional<std::string_view> rows = half_.in->Arrived();
      if (!rows.has_value()) break;
      status = TakeRows(front, *rows);
      if (!status.ok()) break;
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

absl::Status Edge::TakeRows(Arriving& arriving, std::string_view rows) {
  arriving.frame.append(rows);
  // Of the copy: the slot may change at any time.
  const std::string_view copy =
      std::string_view(arriving.frame).substr(arriving.frame.size() - rows.size());
  if (RowsHash(copy) != arriving.rows_hash) {
    return absl::UnavailableError(
        absl::StrCat("rows came otherwise than they were sent (", rows.size(), " bytes)"));
  }
  half_.in->Pop();
  if (!shared_->carrier->is_one_sided()) return absl::OkStatus();
  if (half_.in->num_popped() - num_told_ >= kMaxUntold) {
    SendMessage({.kind = MessageKind::kFreed}, {});
  } else {
    tell_at_ = std::min(tell_at_, absl::Now() + kTellWithin);
    shared_->caretaker->Wake();
  }
  return absl::OkStatus();
}

absl::Status Edge::AdvancePipes(absl::Time now) {
  RETURN_IF_ERROR(half_.out->Advance(now));
  return half_.in->Advance(now);
}

absl::Time Edge::TakeCare(absl::Time now) {
  std::unique_lock lock(mutex_);
  if (below_ == nullptr) return now + kLookForEnds;
  switch (state_) {
    case State::kWhole:
      if (role_ == EdgeRole::kShard) return absl::InfiniteFuture();
      if (now < form_at_) return form_at_;
      if (const std::string peer_layer = below_->peer_layer();
          peer_layer != shared_->carrier->terms()) {
        Settle(std::string_view(peer_layer));
        return absl::InfiniteFuture();
      }
      StartForming(attempt_ + 1, now);
      [[fallthrough]];
    case State::kForming:
      if (half_.out == nullptr || (peer_words_.has_value() && !has_met_)) {
        Form(lock, now);
      } else {
        AdvanceForming(now);
      }
      return now + kLookForEnds;
    case State::kUp: {
      absl::Status status = AdvancePipes(now);
      if (status.ok()) status = Deliver(lock);
      if (!status.ok() && IsOpen()) {
        Break(now, status);
        below_->Reset(status);
      }
      if (state_ != State::kUp) return absl::InfiniteFuture();
      if (now >= tell_at_) SendMessage({.kind = MessageKind::kFreed}, {});
      if (!arriving_.empty()) return now + kLookForRows;
      return half_.out->idle() ? tell_at_ : now + kLookForEnds;
    }
    case State::kDown:
    case State::kBroken:
      break;
  }
  return absl::InfiniteFuture();
}

}  // namespace orrery
