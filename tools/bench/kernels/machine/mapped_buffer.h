// Memory straight from the system, in large pages where it has some: what is measured is not how fast small pages
// are found.
//
//   ASSIGN_OR_RETURN(MappedBuffer buffer, MappedBuffer::Create(256 << 20));
#ifndef ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MAPPED_BUFFER_H_
#define ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MAPPED_BUFFER_H_

#include <cstddef>
#include <utility>

#include "base/status.h"

namespace orrery {

class MappedBuffer {
 public:
  // At least one byte; written to, so that it is memory. RESOURCE_EXHAUSTED if there is none.
  static absl::StatusOr<MappedBuffer> Create(size_t num_bytes);

  MappedBuffer() = default;
  MappedBuffer(MappedBuffer&& other) noexcept { *this = std::move(other); }
  MappedBuffer& operator=(MappedBuffer&& other) noexcept;
  ~MappedBuffer();

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MAPPED_BUFFER_H_
