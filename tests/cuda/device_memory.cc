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

std::optional<SharedFile::Handle> DeviceMemory::Export(const void* data) {
  const std::lock_guard lock(mutex_);
  const auto place =
      allocated_.find(static_cast<size_t>(static_cast<const std::byte*>(data) - begin_));
  if (place == allocated_.end()) return std::nullopt;
  return file_.HandleOf(place->first, place->second);
}

std::byte* DeviceMemory::Import(const SharedFile::Handle& handle) {
  const std::lock_guard lock(mutex_);
  for (auto& [begin, imported] : imported_) {
    const SharedFile::Handle& open = imported.handle;
    if (open.process == handle.process && open.file == handle.file &&
        open.offset == handle.offset) {
      ++imported.num_times;
      return begin;
    }
  }
  const std::optional<SharedFile::Mapping> mapping = SharedFile::Map(handle);
  if (!mapping.has_value()) return nullptr;
  imported_[mapping->begin] = {.handle = handle, .mapping = *mapping, .num_times = 1};
  return mapping->begin;
}

bool DeviceMemory::Release(void* imported) {
  const std::lock_guard lock(mutex_);
  const auto place = imported_.find(static_cast<std::byte*>(imported));
  if (place == imported_.end()) return false;
  if (--place->second.num_times > 0) return true;
  SharedFile::Unmap(place->second.mapping);
  imported_.erase(place);
  return true;
}

bool DeviceMemory::IsImported(const void* data) {
  const std::lock_guard lock(mutex_);
  const auto* const address = static_cast<const std::byte*>(data);
  for (const auto& [begin, imported] : imported_) {
    if (address >= begin && address < begin + imported.handle.num_bytes) return true;
  }
  return false;
}

void DeviceMemory::Protect(int access) const {
  if (used_ > 0) {
    ORRERY_CHECK(mprotect(begin_, used_, access) == 0);
  }
  for (const auto& [begin, imported] : imported_) {
    const SharedFile::Mapping& mapping = imported.mapping;
    ORRERY_CHECK(mprotect(mapping.pages, mapping.num_bytes, access) == 0);
  }
}

DeviceMemory::Opened::Opened() : lock_(The().mutex_) { The().Protect(PROT_READ | PROT_WRITE); }
DeviceMemory::Opened::~Opened() { The().Protect(PROT_NONE); }

}  // namespace orrery
