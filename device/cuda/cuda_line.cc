#include "device/cuda/cuda_line.h"

#include "device/cuda/cuda_stream.h"

namespace orrery {

CudaLine::~CudaLine() {
  cudaSetDevice(device_index_);
  if (stream_ != nullptr) {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }
  for (cudaEvent_t mark : marks_) {
    if (mark != nullptr) cudaEventDestroy(mark);
  }
}

absl::Status CudaLine::Open() {
  RETURN_IF_ERROR(MakeCurrent());
  RETURN_IF_ERROR(CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                             "cudaStreamCreateWithFlags"));
  for (cudaEvent_t& mark : marks_) {
    RETURN_IF_ERROR(CudaStatus(cudaEventCreateWithFlags(&mark, cudaEventDisableTiming),
                               "cudaEventCreateWithFlags"));
  }
  return absl::OkStatus();
}

absl::Status CudaLine::Copy(void* to, const void* from, size_t num_bytes) {
  RETURN_IF_ERROR(MakeCurrent());
  return CudaStatus(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDefault, stream_),
                    "cudaMemcpyAsync");
}

absl::Status CudaLine::Mark(int mark) {
  RETURN_IF_ERROR(MakeCurrent());
  return CudaStatus(cudaEventRecord(marks_[mark], stream_), "cudaEventRecord");
}

absl::StatusOr<bool> CudaLine::IsReached(int mark) {
  RETURN_IF_ERROR(MakeCurrent());
  return orrery::IsReached(marks_[mark]);
}

absl::Status CudaLine::MakeCurrent() {
  return CudaStatus(cudaSetDevice(device_index_), "cudaSetDevice");
}

absl::StatusOr<bool> IsReached(cudaEvent_t event) {
  const cudaError_t error = cudaEventQuery(event);
  if (error == cudaErrorNotReady) return false;
  RETURN_IF_ERROR(CudaStatus(error, "cudaEventQuery"));
  return true;
}

}  // namespace orrery
