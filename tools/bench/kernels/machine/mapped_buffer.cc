#include "tools/bench/kernels/machine/mapped_buffer.h"

#include <sys/mman.h>

#include <cstring>

#include "absl/strings/str_cat.h"

namespace orrery {

absl::StatusOr<MappedBuffer> MappedBuffer::Create(size_t num_bytes) {
  void* const memory =
      mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for a buffer of ", num_bytes, " bytes"));
  }
  MappedBuffer buffer;
  buffer.data_ = static_cast<std::byte*>(memory);
  buffer.size_ = num_bytes;
  madvise(memory, num_bytes, MADV_HUGEPAGE);  // a wish
  std::memset(memory, 1, num_bytes);  // all pages that were never written share one of zeros
  return buffer;
}

MappedBuffer& MappedBuffer::operator=(MappedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedBuffer::~MappedBuffer() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace orrery
