// Frames that wait to be written to one gRPC stream, which takes one write at a time. Header only.
//
//   if (!queue.Push(Seal(std::move(frame)))) return false;         // full
//   if (const internal::Frame* next = queue.StartNext()) StartWrite(next);
//   ... OnWriteDone: queue.WriteDone(); if (next = queue.StartNext()) StartWrite(next);
//   queue.Clear();                                                 // the stream is over; the next one starts at 1
//
// It numbers the frames of a stream.
//
// Threads: none; guarded by the lock of the stream.
#ifndef ORRERY_EXCHANGE_GRPC_OUT_QUEUE_H_
#define ORRERY_EXCHANGE_GRPC_OUT_QUEUE_H_

#include <deque>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/expert.pb.h"

namespace orrery {

class OutQueue {
 public:
  explicit OutQueue(size_t max_bytes) : max_bytes_(max_bytes) {}

  bool Push(internal::Frame frame) {
    if (waiting_bytes_ + BytesOf(frame) > max_bytes_) return false;
    waiting_bytes_ += BytesOf(frame);
    frame.set_number(++num_pushed_);
    waiting_.push_back(std::move(frame));
    return true;
  }
  // The frame to write now, valid until WriteDone; null if a write is in flight or nothing waits.
  const internal::Frame* StartNext() {
    if (writing() || waiting_.empty()) return nullptr;
    waiting_bytes_ -= BytesOf(waiting_.front());
    in_flight_ = std::move(waiting_.front());
    waiting_.pop_front();
    writing_since_ = absl::Now();
    return &in_flight_;
  }
  void WriteDone() {
    writing_since_ = absl::InfiniteFuture();
    in_flight_ = {};  // half a megabyte, maybe until the next frame in an hour
  }
  bool writing() const { return writing_since_ != absl::InfiniteFuture(); }
  // InfiniteFuture if no write is in flight.
  absl::Time writing_since() const { return writing_since_; }
  // Forgets what waits, and counts anew; a write in flight goes on.
  void Clear() {
    waiting_.clear();
    waiting_bytes_ = 0;
    num_pushed_ = 0;
  }

 private:
  // Empty ones take room too.
  static size_t BytesOf(const internal::Frame& frame) {
    return sizeof(frame) + frame.payload().size();
  }

  const size_t max_bytes_;
  std::deque<internal::Frame> waiting_;
  size_t waiting_bytes_ = 0;
  uint64_t num_pushed_ = 0;
  internal::Frame in_flight_;
  absl::Time writing_since_ = absl::InfiniteFuture();
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_GRPC_OUT_QUEUE_H_
