#include "tests/cuda/shared_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "base/check.h"

namespace orrery {
namespace {

constexpr size_t kPage = 4096;

std::byte* MapFile(int descriptor, size_t offset, size_t num_bytes) {
  void* const begin = mmap(nullptr, num_bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, descriptor,
                           static_cast<off_t>(offset));
  return begin == MAP_FAILED ? nullptr : static_cast<std::byte*>(begin);
}

}  // namespace

SharedFile::SharedFile(size_t num_bytes)
    : descriptor_(memfd_create("orrery-stand-in", MFD_CLOEXEC)) {
  struct stat status = {};
  ORRERY_CHECK(descriptor_ >= 0 && ftruncate(descriptor_, static_cast<off_t>(num_bytes)) == 0 &&
               fstat(descriptor_, &status) == 0)
      << num_bytes << " bytes";
  file_ = status.st_ino;
  begin_ = MapFile(descriptor_, 0, num_bytes);
  ORRERY_CHECK(begin_ != nullptr) << num_bytes << " bytes of addresses";
}

SharedFile::Handle SharedFile::HandleOf(size_t offset, size_t num_bytes) const {
  return {.process = getpid(),
          .descriptor = descriptor_,
          .file = file_,
          .offset = offset,
          .num_bytes = num_bytes};
}

bool SharedFile::IsOwn(const Handle& handle) { return handle.process == getpid(); }

std::optional<SharedFile::Mapping> SharedFile::Map(const Handle& handle) {
  const std::string path =
      "/proc/" + std::to_string(handle.process) + "/fd/" + std::to_string(handle.descriptor);
  const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  struct stat status = {};
  std::optional<Mapping> mapping;
  if (fstat(descriptor, &status) == 0 && status.st_ino == handle.file) {
    const size_t lead = handle.offset % kPage;
    const size_t num_bytes = (lead + handle.num_bytes + kPage - 1) / kPage * kPage;
    if (std::byte* const pages = MapFile(descriptor, handle.offset - lead, num_bytes)) {
      mapping = {.pages = pages, .num_bytes = num_bytes, .begin = pages + lead};
    }
  }
  close(descriptor);
  return mapping;
}

void SharedFile::Unmap(const Mapping& mapping) { munmap(mapping.pages, mapping.num_bytes); }

}  // namespace orrery
