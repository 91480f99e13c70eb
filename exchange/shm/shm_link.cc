#include "exchange/shm/shm_link.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "exchange/shm/socket.h"

namespace orrery {
namespace {

// After so many, others that share the thread have their turn.
constexpr int kMaxFramesPerTurn = 64;

// That shares nothing with the original: the thread sanitizer does not see how Debian's build of
// Abseil counts who else holds a status.
absl::Status CopyOf(const absl::Status& status) {
  return absl::Status(status.code(), status.message());
}

}  // namespace

ShmLink::ShmLink(UniqueFd socket, Segment segment, Side side, size_t max_queued_bytes)
    : socket_(std::move(socket)),
      segment_(std::move(segment)),
      max_queued_bytes_(max_queued_bytes),
      reader_(side == Side::kRank ? segment_.to_rank() : segment_.to_shard()),
      writer_(side == Side::kRank ? segment_.to_shard() : segment_.to_rank()) {}

bool ShmLink::Send(std::string frame) {
  if (frame.empty() || frame.size() > kMaxFrameBytes) return false;
  absl::Status broken;
  {
    std::lock_guard lock(mutex_);
    if (!ended_.ok()) return false;
    if (waiting_.empty()) {
      const absl::StatusOr<bool> written = writer_.Write(frame);
      if (written.ok() && *written) {
        if (writer_.ReaderSleeps()) RingBell(socket_.get());
        return true;
      }
      broken = written.status();
    }
    if (broken.ok()) {
      if (waiting_bytes_ + frame.size() > max_queued_bytes_) return false;
      if (waiting_.empty()) stuck_since_ = absl::Now();
      waiting_bytes_ += frame.size();
      waiting_.push_back(std::move(frame));
      broken = WriteWaiting();
      if (broken.ok()) return true;
    }
  }
  End(broken);
  return false;
}

absl::Status ShmLink::WriteWaiting() {
  bool asked = false;
  while (!waiting_.empty()) {
    ASSIGN_OR_RETURN(const bool written, writer_.Write(waiting_.front()));
    if (written) {
      waiting_bytes_ -= waiting_.front().size();
      waiting_.pop_front();
      stuck_since_ = absl::Now();
      asked = false;
      if (writer_.ReaderSleeps()) RingBell(socket_.get());
    } else if (asked) {
      return absl::OkStatus();
    } else {
      writer_.AwaitRoom();
      asked = true;
    }
  }
  stuck_since_ = absl::InfiniteFuture();
  return absl::OkStatus();
}

void ShmLink::End(const absl::Status& why) {
  {
    std::lock_guard lock(mutex_);
    if (!ended_.ok()) return;
    ended_ = why.ok() ? absl::CancelledError("closed") : CopyOf(why);
    waiting_.clear();
    waiting_bytes_ = 0;
    stuck_since_ = absl::InfiniteFuture();
  }
  Packet end;
  end.kind = Packet::Kind::kEnd;
  end.code = static_cast<uint32_t>(why.code());
  end.text = std::string(why.message());
  SendPacket(socket_.get(), end);
  ShutDown(socket_.get());
}

absl::Time ShmLink::stuck_since() {
  std::lock_guard lock(mutex_);
  return stuck_since_;
}

absl::Status ShmLink::TakePacket() {
  ASSIGN_OR_RETURN(const Packet packet, ReceivePacket(socket_.get()));
  switch (packet.kind) {
    case Packet::Kind::kNone:
    case Packet::Kind::kBell:
      return absl::OkStatus();
    case Packet::Kind::kEnd:
      return absl::UnavailableError(absl::StrCat("ended by the other side: ", packet.text));
    default:
      return absl::InvalidArgumentError("a packet of the start in the middle of a connection");
  }
}

absl::Status ShmLink::TakeFrames(ChannelSink& sink, Turn& turn) {
  for (int i = 0; i < kMaxFramesPerTurn; ++i) {
    ASSIGN_OR_RETURN(std::optional<std::string> frame, reader_.Read());
    if (!frame.has_value()) {
      if (reader_.Sleep()) return absl::OkStatus();
      continue;
    }
    if (reader_.WriterWaits()) RingBell(socket_.get());
    turn.brought = true;
    RETURN_IF_ERROR(sink.OnFrame(*std::move(frame)));
  }
  turn.again = true;
  return absl::OkStatus();
}

absl::Status ShmLink::Flush() {
  std::lock_guard lock(mutex_);
  return WriteWaiting();
}

ShmLink::Turn ShmLink::TakeTurn(ChannelSink& sink) {
  Turn turn;
  {
    std::lock_guard lock(mutex_);
    turn.status = CopyOf(ended_);
  }
  if (!turn.status.ok()) return turn;
  turn.status = TakePacket();
  // Also behind the end: what the peer had sent before it is in the ring.
  turn.status.Update(TakeFrames(sink, turn));
  if (turn.status.ok()) turn.status = Flush();
  if (!turn.status.ok()) End(turn.status);
  return turn;
}

}  // namespace orrery
