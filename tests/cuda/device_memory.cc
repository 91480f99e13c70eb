#include "tests/cuda/device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace orrery {
namespace {

constexpr size_t kAlignment = 256;  // cudaMalloc's
constexpr size_t kPage = 4096;

}  // namespace

DeviceMemory& DeviceMemory::The() {
  static auto& memory = *new DeviceMemory;
  return memory;
}

DeviceMemory::DeviceMemory() {
  void* const begin =
      mmap(nullptr, kNumBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ORRERY_CHECK(begin != MAP_FAILED) << kNumBytes << " bytes of addresses";
  begin_ = static_cast<std::byte*>(begin);
}

// The first gap that is large enough.
std::byte* DeviceMemory::Allocate(size_t num_bytes) {
  const std::lock_guard lock(mutex_);
  if (num_bytes > kNumBytes) return nullptr;
  num_bytes = (std::max<size_t>(num_bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  size_t offset = 0;
  for (const auto& [begin, bytes] : allocated_) {
    if (begin - offset >= num_bytes) break;
    offset = begin + bytes;
  }
  if (offset + num_bytes > kNumBytes) return nullptr;
  allocated_[offset] = num_bytes;
  used_ = std::max(used_, (offset + num_bytes + kPage - 1) / kPage * kPage);
  ++num_allocations_;
  return begin_ + offset;
}

size_t DeviceMemory::num_allocated() {
  const std::lock_guard lock(mutex_);
  size_t num_bytes = 0;
  for (const auto& [offset, bytes] : allocated_) num_bytes += bytes;
  return num_bytes;
}

bool DeviceMemory::Free(void* data) {
  const std::lock_guard lock(mutex_);
  if (allocated_.erase(static_cast<size_t>(static_cast<std::byte*>(data) - begin_)) == 0)
    return false;
  // What is not in use any more stays closed, so that opening the rest does not cost more and more.
  const auto last = allocated_.rbegin();
  const size_t end = last == allocated_.rend() ? 0 : last->first + last->second;
  used_ = (end + kPage - 1) / kPage * kPage;
  return true;
}

DeviceMemory::Opened::Opened() : lock_(The().mutex_) {
  const DeviceMemory& memory = The();
  if (memory.used_ == 0) return;
  ORRERY_CHECK(mprotect(memory.begin_, memory.used_, PROT_READ | PROT_WRITE) == 0);
}

DeviceMemory::Opened::~Opened() {
  const DeviceMemory& memory = The();
  if (memory.used_ > 0) mprotect(memory.begin_, memory.used_, PROT_NONE);
}

}  // namespace orrery
