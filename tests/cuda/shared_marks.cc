#include "tests/cuda/shared_marks.h"

#include <sys/mman.h>

#include <map>
#include <mutex>
#include <tuple>

#include "base/check.h"

namespace orrery::shared_marks {
namespace {

struct Marks {
  Marks() : file(kMaxMarks * sizeof(SharedMark)) {
    ORRERY_CHECK(mprotect(file.begin(), kMaxMarks * sizeof(SharedMark), PROT_READ | PROT_WRITE) ==
                 0);
  }
  SharedFile file;
  std::atomic<int> num_made = 0;
};

Marks& OwnMarks() {
  static auto& marks = *new Marks;
  return marks;
}

}  // namespace

SharedMark* Make() {
  const int index = OwnMarks().num_made++;
  ORRERY_CHECK(index < kMaxMarks) << index;
  return reinterpret_cast<SharedMark*>(OwnMarks().file.begin()) + index;
}

SharedFile::Handle HandleOf(const SharedMark& mark) {
  const SharedFile& file = OwnMarks().file;
  const auto offset = reinterpret_cast<const std::byte*>(&mark) - file.begin();
  return file.HandleOf(static_cast<size_t>(offset), sizeof(mark));
}

// The marks of a process are mapped once, and stay.
SharedMark* Open(const SharedFile::Handle& handle) {
  static std::mutex mutex;
  static auto& opened = *new std::map<std::tuple<int, uint64_t>, SharedFile::Mapping>;
  const std::lock_guard lock(mutex);
  const auto key = std::make_tuple(handle.process, handle.file);
  if (opened.count(key) == 0) {
    SharedFile::Handle all = handle;
    all.offset = 0;
    all.num_bytes = kMaxMarks * sizeof(SharedMark);
    const std::optional<SharedFile::Mapping> mapping = SharedFile::Map(all);
    if (!mapping.has_value()) return nullptr;
    ORRERY_CHECK(mprotect(mapping->pages, mapping->num_bytes, PROT_READ | PROT_WRITE) == 0);
    opened[key] = *mapping;
  }
  return reinterpret_cast<SharedMark*>(opened[key].begin + handle.offset);
}

}  // namespace orrery::shared_marks
