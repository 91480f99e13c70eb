// Memory, streams and events of one processor: the contract that kernels and engine stand on.
//
//   std::unique_ptr<Device> device = MakeHostDevice();
//   ASSIGN_OR_RETURN(Buffer hidden, device->Allocate(num_rows * row_bytes, MemoryKind::kDevice));
//   std::unique_ptr<Stream> stream = device->MakeStream();
//   stream->CopyToDevice(hidden.data(), source, bytes);
//   RETURN_IF_ERROR(stream->Synchronize());
//
// Everything on a stream happens in the order of the calls. A copy to the host, or work of a
// kernel, may be read only after Synchronize(). On the host device every call has
// finished when it returns.
//
// It is not a math library (kernels/) and not a transport (exchange/).
//
// What is queued again and again with the same addresses and sizes can be captured once and then be
// replayed as one call, where a stream can do that; what stands in memory is read when it runs.
//
// Threads: a Device may be shared; a Stream, its events and graphs belong to one thread at a time.
// Errors: Allocate answers RESOURCE_EXHAUSTED with the bytes asked for. Errors of queued work
// surface in Synchronize().
#ifndef ORRERY_DEVICE_DEVICE_H_
#define ORRERY_DEVICE_DEVICE_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "base/status.h"

namespace orrery {

enum class MemoryKind {
  kDevice,      // where kernels work
  kPinnedHost,  // host memory that copies to and from the device can use directly
};

// Bytes that a device gave out; freed with the object. Aligned to 64 bytes. Contents start as zero.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, size_t num_bytes, std::function<void(void*)> free)
      : data_(data), num_bytes_(num_bytes), free_(std::move(free)) {}
  ~Buffer() { Release(); }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      Release();
      data_ = std::exchange(other.data_, nullptr);
      num_bytes_ = std::exchange(other.num_bytes_, 0);
      free_ = std::move(other.free_);
    }
    return *this;
  }

  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t num_bytes() const { return num_bytes_; }

 private:
  void Release() {
    if (data_ != nullptr) free_(data_);
    data_ = nullptr;
  }

  void* data_ = nullptr;
  size_t num_bytes_ = 0;
  std::function<void(void*)> free_;
};

// A point on a stream that another stream can wait for.
class Event {
 public:
  virtual ~Event() = default;
};

// Work of a stream that was captured.
class Graph {
 public:
  virtual ~Graph() = default;
};

class Stream {
 public:
  virtual ~Stream() = default;
  virtual void CopyToDevice(void* to, const void* from, size_t num_bytes) = 0;
  virtual void CopyToHost(void* to, const void* from, size_t num_bytes) = 0;
  // Between two places of the device that do not overlap.
  virtual void CopyOnDevice(void* to, const void* from, size_t num_bytes) = 0;
  virtual std::unique_ptr<Event> Record() = 0;
  // Later work on this stream starts after the event.
  virtual void Wait(const Event& event) = 0;
  // Blocks until everything queued has finished; the first error since the last call.
  virtual absl::Status Synchronize() = 0;

  // Whether Capture is there; on the host, where a call costs nothing but itself, it is not.
  virtual bool can_capture() const { return false; }
  // What `work` queues on this stream, which is not done now, but by each Replay. Within it nothing may
  // be allocated, freed or waited for. The graph must not outlive the stream. RESOURCE_EXHAUSTED when
  // the stream has no room for another.
  virtual absl::StatusOr<std::unique_ptr<Graph>> Capture(const std::function<void()>& work) {
    return absl::UnimplementedError("this stream cannot capture");
  }
  // Queues all of it.
  virtual void Replay(const Graph& graph) {}
};

// What a buffer takes of memory that was reserved.
constexpr size_t ReservedBytes(size_t num_bytes) {
  constexpr size_t kBorder = 256;
  return num_bytes == 0 ? kBorder : (num_bytes + kBorder - 1) / kBorder * kBorder;
}

// Of memory of kind kDevice, what is left and what there is.
struct MemoryBytes {
  size_t free = 0;
  size_t total = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  // For messages and status pages: "host", "cuda:0 NVIDIA H200".
  virtual std::string name() const = 0;
  virtual absl::StatusOr<Buffer> Allocate(size_t num_bytes, MemoryKind kind) = 0;
  // Takes so many bytes (of buffers, the sum of their ReservedBytes) at once, out of which all memory of kind kDevice comes from then on, and no
  // other. Before the first Allocate of that kind. RESOURCE_EXHAUSTED with what there is. On the host
  // it does nothing: there memory is the system's.
  virtual absl::Status Reserve(size_t num_bytes) { return absl::OkStatus(); }
  virtual absl::StatusOr<MemoryBytes> memory() const = 0;
  // Bytes of the host as memory of the device, only to be read: where kernels work in host memory the
  // same bytes, which `owner` keeps, else a copy.
  virtual absl::StatusOr<Buffer> Share(const void* data, size_t num_bytes,
                                       std::shared_ptr<const void> owner) {
    ASSIGN_OR_RETURN(Buffer buffer, Allocate(num_bytes, MemoryKind::kDevice));
    const std::unique_ptr<Stream> stream = MakeStream();
    stream->CopyToDevice(buffer.data(), data, num_bytes);
    RETURN_IF_ERROR(stream->Synchronize());
    return buffer;
  }
  virtual std::unique_ptr<Stream> MakeStream() = 0;
};

}  // namespace orrery

#endif  // ORRERY_DEVICE_DEVICE_H_
