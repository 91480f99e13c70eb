// A stream of a GPU for who must not wait: copies, and marks on it that can be asked whether they were
// reached. What goes wrong is said at once.
//
//   CudaLine line(/*device_index=*/0, /*num_marks=*/4);
//   RETURN_IF_ERROR(line.Open());
//   RETURN_IF_ERROR(line.Copy(to, from, num_bytes));
//   RETURN_IF_ERROR(line.Mark(2));
//   ... until *line.IsReached(2) ...
//
// Nothing but the destructor blocks: it waits until the stream has let go of all memory. Errors: INTERNAL,
// naming the call (CudaStatus).
// Threads: one at a time; each call makes the GPU the current one of its thread.
#ifndef ORRERY_DEVICE_CUDA_CUDA_LINE_H_
#define ORRERY_DEVICE_CUDA_CUDA_LINE_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

#include "base/status.h"

namespace orrery {

class CudaLine {
 public:
  CudaLine(int device_index, int num_marks)
      : device_index_(device_index), marks_(num_marks, nullptr) {}
  ~CudaLine();
  CudaLine(const CudaLine&) = delete;
  CudaLine& operator=(const CudaLine&) = delete;

  absl::Status Open();
  // The direction follows from the addresses. From or to the host: pinned memory only.
  absl::Status Copy(void* to, const void* from, size_t num_bytes);
  // Remembers the end of what is on the stream now.
  absl::Status Mark(int mark);
  absl::StatusOr<bool> IsReached(int mark);

  // For who queues work of his own.
  absl::Status MakeCurrent();
  cudaStream_t handle() const { return stream_; }

 private:
  const int device_index_;
  cudaStream_t stream_ = nullptr;
  std::vector<cudaEvent_t> marks_;  // [num_marks]
};

// Whether what was on its stream when the event was recorded is over.
absl::StatusOr<bool> IsReached(cudaEvent_t event);

}  // namespace orrery

#endif  // ORRERY_DEVICE_CUDA_CUDA_LINE_H_
