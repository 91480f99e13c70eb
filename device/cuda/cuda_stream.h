// A stream of a GPU as those see it who queue work of their own: kernels, transports.
//
//   auto& stream = dynamic_cast<CudaStream&>(*device->MakeStream());
//   stream.MakeCurrent();
//   stream.Keep(cudaLaunchKernelEx(...on stream.handle()...), "RmsNorm");
//
// Everybody else says Stream. While it captures, nothing that is queued happens; arrays of the host
// that the work reads go to the graph itself:
//
//   if (CudaGraph* graph = stream.capturing()) on_device = graph->Put(data, num_bytes);
//
// Errors: the first that was kept is what Synchronize(), or Capture, reports.
#ifndef ORRERY_DEVICE_CUDA_CUDA_STREAM_H_
#define ORRERY_DEVICE_CUDA_CUDA_STREAM_H_

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "device/device.h"

namespace orrery {

// "cudaMemset: cudaErrorInvalidValue: invalid argument".
absl::Status CudaStatus(cudaError_t error, const char* call);

// Constants of all graphs of a stream: jobs of products and attention, mostly. Of a layer of
// DeepSeek-V3 some 100 KiB for each size of batch; of Llama 8B with 64 rows 160 KiB.
inline constexpr size_t kGraphBytes = 32 << 20;

class CudaGraph : public Graph {
 public:
  // room: memory of the device that nobody else writes.
  explicit CudaGraph(absl::Span<std::byte> room) : room_(room) {}
  ~CudaGraph() override;
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  // While it is captured. Where the bytes will stand, on a border of 64, whenever it runs.
  const void* Put(const void* data, size_t num_bytes);

 private:
  friend class CudaStream;

  absl::Span<std::byte> room_;
  std::vector<std::byte> constants_;  // of room_, from its begin
  bool is_full_ = false;
  cudaGraphExec_t exec_ = nullptr;
};

class CudaStream : public Stream {
 public:
  CudaStream(Device* device, int device_index);
  ~CudaStream() override;

  void CopyToDevice(void* to, const void* from, size_t num_bytes) override;
  void CopyToHost(void* to, const void* from, size_t num_bytes) override;
  void CopyOnDevice(void* to, const void* from, size_t num_bytes) override;
  std::unique_ptr<Event> Record() override;
  void Wait(const Event& event) override;
  absl::Status Synchronize() override;
  bool can_capture() const override { return true; }
  absl::StatusOr<std::unique_ptr<Graph>> Capture(const std::function<void()>& work) override;
  void Replay(const Graph& graph) override;

  Device& device() const { return *device_; }
  int device_index() const { return device_index_; }
  cudaStream_t handle() const { return stream_; }
  // Null when nothing is captured.
  CudaGraph* capturing() const { return capturing_; }
  // Whether any was ever captured.
  bool has_graphs() const { return graph_memory_.data() != nullptr; }
  // Calls of the runtime that follow on this thread concern the stream's GPU.
  void MakeCurrent() { Keep(cudaSetDevice(device_index_), "cudaSetDevice"); }
  void Keep(cudaError_t error, const char* call) {
    if (error != cudaSuccess && first_error_.ok()) first_error_ = CudaStatus(error, call);
  }

 private:
  void Copy(void* to, const void* from, size_t num_bytes);
  // Makes it ready to be launched of what was captured.
  absl::Status Finish(cudaGraph_t captured, CudaGraph& graph);

  Device* device_;
  int device_index_;
  cudaStream_t stream_ = nullptr;
  absl::Status first_error_;
  CudaGraph* capturing_ = nullptr;
  Buffer graph_memory_;     // kGraphBytes, from the first capture on
  size_t graph_bytes_ = 0;  // of them, those that belong to graphs, which never give them back
};

}  // namespace orrery

#endif  // ORRERY_DEVICE_CUDA_CUDA_STREAM_H_
