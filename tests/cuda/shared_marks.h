// Events of the stand-in that processes share: how often each was recorded, and how many of those recordings its
// stream has come to, in memory of the process that made it.
//
//   SharedMark* mark = shared_marks::Make();  shared_marks::HandleOf(*mark);
//   SharedMark* there = shared_marks::Open(handle);       // in another process; null: its process is gone
//   const uint64_t recording = mark->Record();           // the stream, later: mark->Reach(recording)
//   there->IsReached();                                  // as of the latest recording
//
// None is ever given back; there are kMaxMarks for a process.
// Threads: safe.
#ifndef ORRERY_TESTS_CUDA_SHARED_MARKS_H_
#define ORRERY_TESTS_CUDA_SHARED_MARKS_H_

#include <atomic>
#include <cstdint>

#include "tests/cuda/shared_file.h"

namespace orrery {

class SharedMark {
 public:
  uint64_t Record() { return ++num_recorded_; }
  void Reach(uint64_t recording) {
    uint64_t reached = num_reached_;
    while (reached < recording && !num_reached_.compare_exchange_weak(reached, recording)) {
    }
  }
  bool IsReached() const { return num_reached_ >= num_recorded_; }

 private:
  std::atomic<uint64_t> num_recorded_;  // both are 0 in fresh memory
  std::atomic<uint64_t> num_reached_;
};

namespace shared_marks {

inline constexpr int kMaxMarks = 1 << 16;

SharedMark* Make();
SharedFile::Handle HandleOf(const SharedMark& mark);
SharedMark* Open(const SharedFile::Handle& handle);

}  // namespace shared_marks

}  // namespace orrery

#endif  // ORRERY_TESTS_CUDA_SHARED_MARKS_H_
