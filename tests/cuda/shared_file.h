// Memory of a process of the stand-in that others of its host can map: it lives in a file without a name, which
// they find through /proc and which dies with the last process that has it.
//
//   SharedFile file(num_bytes);                              // mapped at file.begin()
//   SharedFile::Handle handle = file.HandleOf(offset, n);    // for another process
//   auto there = SharedFile::Map(handle);                    // nothing: its process is gone
//
// Threads: safe.
#ifndef ORRERY_TESTS_CUDA_SHARED_FILE_H_
#define ORRERY_TESTS_CUDA_SHARED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <optional>

namespace orrery {

class SharedFile {
 public:
  // Of a kind that fits CUDA's handles of 64 bytes.
  struct Handle {
    int32_t process = 0;
    int32_t descriptor = 0;  // of the process
    uint64_t file = 0;       // which file that should be
    uint64_t offset = 0;
    uint64_t num_bytes = 0;
  };
  static_assert(sizeof(Handle) <= 64);

  // Not accessible at first: mprotect.
  explicit SharedFile(size_t num_bytes);
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;

  std::byte* begin() const { return begin_; }
  Handle HandleOf(size_t offset, size_t num_bytes) const;
  static bool IsOwn(const Handle& handle);
  // Not accessible at first, as a whole.
  struct Mapping {
    std::byte* pages = nullptr;
    size_t num_bytes = 0;  // of the pages
    std::byte* begin = nullptr;
  };
  static std::optional<Mapping> Map(const Handle& handle);
  static void Unmap(const Mapping& mapping);

 private:
  int descriptor_ = -1;
  uint64_t file_ = 0;
  std::byte* begin_ = nullptr;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_CUDA_SHARED_FILE_H_
