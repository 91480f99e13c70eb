#include "kernels/cuda/staging.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace orrery {
namespace {

// Of a step of a large model: the blocks of 64 sequences of 32,768 tokens take 128 KiB.
constexpr size_t kFirstHalfBytes = 256 << 10;

constexpr size_t RoundUp(size_t num_bytes) {
  return (num_bytes + kStagingAlignment - 1) / kStagingAlignment * kStagingAlignment;
}

Buffer MustAllocate(Device& device, size_t num_bytes, MemoryKind kind) {
  absl::StatusOr<Buffer> buffer = device.Allocate(num_bytes, kind);
  ORRERY_CHECK(buffer.ok()) << buffer.status();
  return *std::move(buffer);
}

}  // namespace

Staging::Staging(CudaStream* stream) : stream_(stream) {
  for (cudaEvent_t& event : copied_) {
    stream_->Keep(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "staging event");
    stream_->Keep(cudaEventRecord(event, stream_->handle()), "staging event");
  }
}

size_t Staging::DeviceBytes(size_t num_bytes) {
  return 2 * RoundUp(std::max(num_bytes, kFirstHalfBytes));
}

Staging::~Staging() {
  for (const cudaEvent_t event : copied_) cudaEventDestroy(event);
}

void Staging::Reserve(size_t num_bytes) {
  if (stream_->capturing() != nullptr) return;  // the graph has room, or says that it has not
  if (num_bytes > half_bytes_) {
    // Copies from the old buffer, and kernels that read it, must be done.
    stream_->Keep(cudaStreamSynchronize(stream_->handle()), "cudaStreamSynchronize");
    half_bytes_ = RoundUp(std::max({2 * half_bytes_, num_bytes, kFirstHalfBytes}));
    on_device_ = Buffer();  // first, so that there is room
    pinned_ = MustAllocate(stream_->device(), 2 * half_bytes_, MemoryKind::kPinnedHost);
    on_device_ = MustAllocate(stream_->device(), 2 * half_bytes_, MemoryKind::kDevice);
    half_ = 0;
    used_ = 0;
  } else if (used_ + num_bytes > half_bytes_) {
    TurnTo(1 - half_);
  }
}

void Staging::TurnTo(int half) {
  stream_->Keep(cudaEventRecord(copied_[half_], stream_->handle()), "staging event");
  stream_->Keep(cudaEventSynchronize(copied_[half]), "staging event");
  half_ = half;
  used_ = 0;
}

const void* Staging::PutBytes(const void* data, size_t num_bytes) {
  if (num_bytes == 0) return nullptr;
  if (CudaGraph* const graph = stream_->capturing()) return graph->Put(data, num_bytes);
  ORRERY_CHECK(used_ + num_bytes <= half_bytes_) << used_ << " + " << num_bytes << " bytes";
  const size_t offset = half_ * half_bytes_ + used_;
  std::memcpy(pinned_.as<std::byte>() + offset, data, num_bytes);
  stream_->CopyToDevice(on_device_.as<std::byte>() + offset, pinned_.as<std::byte>() + offset,
                        num_bytes);
  used_ += (num_bytes + kStagingAlignment - 1) / kStagingAlignment * kStagingAlignment;
  used_ = std::min(used_, half_bytes_);
  return on_device_.as<std::byte>() + offset;
}

std::byte* Scratch::Get(size_t num_bytes) {
  if (num_bytes > memory_.num_bytes()) {
    ORRERY_CHECK(!stream_->has_graphs() && stream_->capturing() == nullptr)
        << num_bytes << " bytes of scratch, where graphs know of " << memory_.num_bytes();
    memory_ = Buffer();  // first: it may be most of what there is
    memory_ = MustAllocate(stream_->device(), num_bytes, MemoryKind::kDevice);
  }
  return memory_.as<std::byte>();
}

}  // namespace orrery
