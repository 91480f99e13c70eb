// Frames that wait to be written to one gRPC stream, which takes one write at a time. Header only.
//
//   if (!queue.Push(Seal(std::move(frame)))) return false;         // full
//   if (const internal::Frame* next = queue.StartNext()) StartWrite(next);
//   ... OnWriteDone: queue.WriteDone(); if (next = queue.StartNext()) StartWrite(next);
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
    if (waiting_bytes_ + frame.payload().size() > max_bytes_) return false;
    waiting_bytes_ += frame.payload().size();
    waiting_.push_back(std::move(frame));
    return true;
  }
  // The frame to write now, valid until WriteDone; null if a write is in flight or nothing waits.
  const internal::Frame* StartNext() {
    if (writing() || waiting_.empty()) return nullptr;
    waiting_bytes_ -= waiting_.front().payload().size();
    in_flight_ = std::move(waiting_.front());
    waiting_.pop_front();
    writing_since_ = absl::Now();
    return &in_flight_;
  }
  void WriteDone() { writing_since_ = absl::InfiniteFuture(); }
  bool writing() const { return writing_since_ != absl::InfiniteFuture(); }
  // InfiniteFuture if no write is in flight.
  absl::Time writing_since() const { return writing_since_; }
  // Forgets what waits; a write in flight goes on.
  void Clear() {
    waiting_.clear();
    waiting_bytes_ = 0;
  }

 private:
  const size_t max_bytes_;
  std::deque<internal::Frame> waiting_;
  size_t waiting_bytes_ = 0;
  internal::Frame in_flight_;
  absl::Time writing_since_ = absl::InfiniteFuture();
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_GRPC_OUT_QUEUE_H_
