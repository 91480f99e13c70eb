#include "tests/cuda/streams.h"

#include <cuda_runtime.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/graphs.h"
#include "tests/cuda/ipc.h"
#include "tests/cuda/shared_marks.h"

using cuda_on_host::RefusedByCapture;
using cuda_on_host::RunInStream;

namespace {

using orrery::DeviceMemory;
using Clock = std::chrono::steady_clock;
using Work = std::function<void()>;

// The work of one stream, in order.
class WorkQueue : public std::enable_shared_from_this<WorkQueue> {
 public:
  // Within the call if it can be.
  void Run(Work work) {
    std::unique_lock lock(mutex_);
    if (is_busy_ || !waiting_.empty()) {
      Add(std::move(work));
      return;
    }
    is_busy_ = true;
    lock.unlock();
    work();
    lock.lock();
    is_busy_ = false;
    changed_.notify_all();
  }
  void RunLater(Work work) {
    const std::lock_guard lock(mutex_);
    Add(std::move(work));
  }
  bool idle() {
    const std::lock_guard lock(mutex_);
    return IsIdle();
  }
  void AwaitIdle() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return IsIdle(); });
  }
  // Nobody will add anything; what waits still runs.
  void End() {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    changed_.notify_all();
  }

 private:
  bool IsIdle() const { return !is_busy_ && waiting_.empty(); }
  // The thread holds on to the queue, which may be destroyed as a stream before its work has ended.
  void Add(Work work) {
    waiting_.push_back(std::move(work));
    changed_.notify_all();
    if (has_thread_) return;
    has_thread_ = true;
    std::thread([self = shared_from_this()] { self->Loop(); }).detach();
  }
  void Loop() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return !is_busy_ && (ends_ || !waiting_.empty()); });
      if (waiting_.empty()) return;
      Work work = std::move(waiting_.front());
      waiting_.pop_front();
      is_busy_ = true;
      lock.unlock();
      work();
      work = nullptr;
      lock.lock();
      is_busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> waiting_;
  bool is_busy_ = false;
  bool has_thread_ = false;
  bool ends_ = false;
};

// One recording of an event.
class Mark {
 public:
  void Set() {
    const std::lock_guard lock(mutex_);
    is_set_ = true;
    time_ = Clock::now();
    changed_.notify_all();
  }
  bool is_set() {
    const std::lock_guard lock(mutex_);
    return is_set_;
  }
  // Of one that is set.
  Clock::time_point time() {
    const std::lock_guard lock(mutex_);
    return time_;
  }
  void Await() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_set_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_set_ = false;
  Clock::time_point time_;
};

// As of every GPU so far; more only after cudaFuncSetAttribute, up to what cudaDeviceProp says.
constexpr size_t kSharedWithoutAsking = 48 << 10;

std::mutex mutex;
std::map<const void*, size_t>& AllowedShared() {
  static auto& allowed = *new std::map<const void*, size_t>;
  return allowed;
}
std::set<std::shared_ptr<WorkQueue>>& OpenQueues() {
  static auto& queues = *new std::set<std::shared_ptr<WorkQueue>>;
  return queues;
}

}  // namespace

struct CUstream_st {
  std::shared_ptr<WorkQueue> queue = std::make_shared<WorkQueue>();
};
struct CUevent_st {
  std::shared_ptr<Mark> mark;            // of its last recording; null before the first
  orrery::SharedMark* shared = nullptr;  // of one that processes share; it has no other
};

void cuda_on_host::RunInStream(cudaStream_t stream, Work work) {
  if (Captures(stream, work)) return;
  if (stream == nullptr) {
    work();
  } else {
    stream->queue->Run(std::move(work));
  }
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = new CUstream_st;
  const std::lock_guard lock(mutex);
  OpenQueues().insert((*stream)->queue);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  stream->queue->End();
  {
    const std::lock_guard lock(mutex);
    OpenQueues().erase(stream->queue);
  }
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (RefusedByCapture()) return cudaErrorStreamCaptureUnsupported;
  if (stream != nullptr) stream->queue->AwaitIdle();
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (RefusedByCapture()) return cudaErrorStreamCaptureUnsupported;
  return stream == nullptr || stream->queue->idle() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaDeviceSynchronize() {
  if (RefusedByCapture()) return cudaErrorStreamCaptureUnsupported;
  std::set<std::shared_ptr<WorkQueue>> queues;
  {
    const std::lock_guard lock(mutex);
    queues = OpenQueues();
  }
  for (const auto& queue : queues) queue->AwaitIdle();
  return cudaSuccess;
}

cudaError_t cudaMemset(void* data, int value, size_t num_bytes) {
  if (RefusedByCapture()) return cudaErrorStreamCaptureUnsupported;
  const DeviceMemory::Opened opened;
  std::memset(data, value, num_bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t num_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const auto copy = [=] {
    const DeviceMemory::Opened opened;
    std::memmove(to, from, num_bytes);
  };
  const cuda_on_host::IpcFaults faults = cuda_on_host::CurrentIpcFaults();
  if ((!faults.fails && !faults.stalls) || !DeviceMemory::The().IsImported(to)) {
    RunInStream(stream, copy);
    return cudaSuccess;
  }
  if (faults.fails) return cudaErrorIllegalAddress;
  stream->queue->RunLater([copy] {
    while (cuda_on_host::CurrentIpcFaults().stalls) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    copy();
  });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const bool is_shared = (flags & cudaEventInterprocess) != 0;
  if (is_shared && (flags & cudaEventDisableTiming) == 0) return cudaErrorInvalidValue;
  *event =
      new CUevent_st{.mark = nullptr, .shared = is_shared ? orrery::shared_marks::Make() : nullptr};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (RefusedByCapture()) return cudaErrorStreamCaptureUnsupported;
  if (event->shared != nullptr) {
    RunInStream(stream, [mark = event->shared, recording = event->shared->Record()] {
      mark->Reach(recording);
    });
    return cudaSuccess;
  }
  const auto mark = std::make_shared<Mark>();
  event->mark = mark;
  RunInStream(stream, [mark] { mark->Set(); });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (RefusedByCapture()) return cudaErrorStreamCaptureUnsupported;
  if (event->shared != nullptr) return cudaErrorInvalidResourceHandle;
  if (event->mark != nullptr) event->mark->Await();
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (RefusedByCapture()) return cudaErrorStreamCaptureUnsupported;
  if (event->shared != nullptr) {
    return event->shared->IsReached() ? cudaSuccess : cudaErrorNotReady;
  }
  return event->mark == nullptr || event->mark->is_set() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (begin->mark == nullptr || end->mark == nullptr) return cudaErrorInvalidResourceHandle;
  if (!begin->mark->is_set() || !end->mark->is_set()) return cudaErrorNotReady;
  *milliseconds =
      std::chrono::duration<float, std::milli>(end->mark->time() - begin->mark->time()).count();
  return cudaSuccess;
}
// CUDA takes an event that was never recorded for one that has happened; here it is a mistake.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  if (RefusedByCapture()) return cudaErrorStreamCaptureUnsupported;
  if (event->mark == nullptr) return cudaErrorInvalidResourceHandle;
  if (event->mark->is_set()) return cudaSuccess;
  if (stream == nullptr) {
    event->mark->Await();
  } else {
    stream->queue->RunLater([mark = event->mark] { mark->Await(); });
  }
  return cudaSuccess;
}

cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t* handle, cudaEvent_t event) {
  if (event->shared == nullptr) return cudaErrorInvalidResourceHandle;
  const orrery::SharedFile::Handle shared = orrery::shared_marks::HandleOf(*event->shared);
  *handle = {};
  std::memcpy(handle->reserved, &shared, sizeof(shared));
  return cudaSuccess;
}
cudaError_t cudaIpcOpenEventHandle(cudaEvent_t* event, cudaIpcEventHandle_t handle) {
  orrery::SharedFile::Handle shared;
  std::memcpy(&shared, handle.reserved, sizeof(shared));
  orrery::SharedMark* const mark = orrery::shared_marks::Open(shared);
  if (mark == nullptr) return cudaErrorMapBufferObjectFailed;
  *event = new CUevent_st{.mark = nullptr, .shared = mark};
  return cudaSuccess;
}

namespace cuda_on_host {

void RunOnStream(cudaStream_t stream, std::function<void()> work) {
  stream->queue->RunLater(std::move(work));
}

cudaError_t AllowSharedMemory(const void* kernel, int num_bytes) {
  cudaDeviceProp properties;
  cudaGetDeviceProperties(&properties, 0);
  if (num_bytes < 0 || static_cast<size_t>(num_bytes) > properties.sharedMemPerBlockOptin) {
    return cudaErrorInvalidValue;
  }
  const std::lock_guard lock(mutex);
  AllowedShared()[kernel] = num_bytes;
  return cudaSuccess;
}

// The limits of every GPU so far.
cudaError_t LaunchOnStream(const cudaLaunchConfig_t& config, const void* kernel,
                           const std::function<void()>& body) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  const uint64_t num_threads = uint64_t{block.x} * block.y * block.z;
  size_t allowed_shared = kSharedWithoutAsking;
  {
    const std::lock_guard lock(mutex);
    if (const auto it = AllowedShared().find(kernel); it != AllowedShared().end()) {
      allowed_shared = std::max(allowed_shared, it->second);
    }
  }
  if (num_threads == 0 || num_threads > 1024 || grid.x == 0 || grid.x > 0x7fffffffu ||
      grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535 ||
      config.dynamicSmemBytes > allowed_shared) {
    return cudaErrorInvalidConfiguration;
  }
  RunInStream(config.stream, [=, shared_bytes = config.dynamicSmemBytes] {
    const DeviceMemory::Opened opened;
    RunGrid(grid, block, shared_bytes, body);
  });
  return cudaSuccess;
}

}  // namespace cuda_on_host
