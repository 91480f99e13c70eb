#include "base/allocation_counter.h"

#include <errno.h>
#include <stdlib.h>

#include <atomic>
#include <cstddef>
#include <new>

namespace orrery {
namespace {

std::atomic<int64_t> num_allocations = 0;

void* Allocate(std::size_t alignment, std::size_t num_bytes) {
  ++num_allocations;
  return aligned_alloc(alignment, (num_bytes + alignment - 1) / alignment * alignment);
}
void* OrThrow(void* bytes) {
  if (bytes == nullptr) throw std::bad_alloc();
  return bytes;
}
constexpr std::size_t kForAnyValue = alignof(std::max_align_t);

}  // namespace

int64_t NumAllocations() { return num_allocations; }

}  // namespace orrery

// The array versions call these.
void* operator new(std::size_t n) {
  return orrery::OrThrow(orrery::Allocate(orrery::kForAnyValue, n));
}
void* operator new(std::size_t n, std::align_val_t a) {
  return orrery::OrThrow(orrery::Allocate(static_cast<std::size_t>(a), n));
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  return orrery::Allocate(orrery::kForAnyValue, n);
}
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return orrery::Allocate(static_cast<std::size_t>(a), n);
}
void operator delete(void* bytes) noexcept { free(bytes); }
void operator delete(void* bytes, std::size_t) noexcept { free(bytes); }
void operator delete(void* bytes, std::align_val_t) noexcept { free(bytes); }
void operator delete(void* bytes, std::size_t, std::align_val_t) noexcept { free(bytes); }

extern "C" int posix_memalign(void** memory, size_t alignment, size_t num_bytes) noexcept {
  *memory = orrery::Allocate(alignment, num_bytes);
  return *memory == nullptr ? ENOMEM : 0;
}
