#include "rpc/tls/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

// 0, or an error number.
int WriteAll(int fd, const std::string& text) {
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = write(fd, text.data() + written, text.size() - written);
    if (count < 0 && errno != EINTR) return errno;
    if (count > 0) written += count;
  }
  return 0;
}

}  // namespace

MemoryFile::~MemoryFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status MemoryFile::Replace(const std::string& text) {
  const int fd = memfd_create("orrery", MFD_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, "cannot make a file in memory");
  int error = WriteAll(fd, text);
  if (error == 0 && fd_ < 0) {
    fd_ = fd;
    return absl::OkStatus();
  }
  // The path leads through the number of the descriptor, which means another file from here on.
  if (error == 0 && dup3(fd, fd_, O_CLOEXEC) < 0) error = errno;
  close(fd);
  if (error == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(error, "cannot write a file in memory");
}

std::string MemoryFile::path() const { return absl::StrCat("/proc/self/fd/", fd_); }

}  // namespace orrery
