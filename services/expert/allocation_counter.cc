#include "services/expert/allocation_counter.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace orrery {
namespace {

std::atomic<int64_t> num_allocations = 0;

void* Allocate(std::size_t num_bytes, std::align_val_t alignment) {
  ++num_allocations;
  const auto align = static_cast<std::size_t>(alignment);
  return std::aligned_alloc(align, (num_bytes + align - 1) / align * align);
}
void* OrThrow(void* bytes) {
  if (bytes == nullptr) throw std::bad_alloc();
  return bytes;
}
constexpr std::align_val_t kForAnyValue{alignof(std::max_align_t)};

}  // namespace

int64_t NumAllocations() { return num_allocations; }

}  // namespace orrery

// The array versions call these. So does libstdc++'s nothrow version, but not the sanitizers'.
void* operator new(std::size_t n) {
  return orrery::OrThrow(orrery::Allocate(n, orrery::kForAnyValue));
}
void* operator new(std::size_t n, std::align_val_t a) {
  return orrery::OrThrow(orrery::Allocate(n, a));
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  return orrery::Allocate(n, orrery::kForAnyValue);
}
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return orrery::Allocate(n, a);
}
void operator delete(void* bytes) noexcept { std::free(bytes); }
void operator delete(void* bytes, std::size_t) noexcept { std::free(bytes); }
void operator delete(void* bytes, std::align_val_t) noexcept { std::free(bytes); }
void operator delete(void* bytes, std::size_t, std::align_val_t) noexcept { std::free(bytes); }
