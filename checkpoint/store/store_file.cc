#include "checkpoint/store/store_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace orrery {

absl::StatusOr<StoreFile> StoreFile::Open(const std::string& path, Mode mode) {
  const int flags = O_CLOEXEC | (mode == Mode::kWrite ? O_RDWR | O_CREAT : O_RDONLY);
  int fd = -1;
  if (mode == Mode::kDirect) fd = open(path.c_str(), flags | O_DIRECT);
  if (fd < 0) fd = open(path.c_str(), flags, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  return StoreFile(path, fd);
}

StoreFile::~StoreFile() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<int64_t> StoreFile::Size() const {
  struct stat info;
  if (fstat(fd_, &info) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot stat ", path_));
  return static_cast<int64_t>(info.st_size);
}

absl::Status StoreFile::ReadAt(int64_t offset, absl::Span<std::byte> to) const {
  for (size_t done = 0; done < to.size();) {
    const ssize_t num = pread(fd_, to.data() + done, to.size() - done,
                              static_cast<off_t>(offset + static_cast<int64_t>(done)));
    if (num < 0 && errno == EINTR) continue;
    if (num < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path_));
    if (num == 0) {
      return absl::DataLossError(absl::StrCat(path_, " ends at ", offset + done, ", inside of ",
                                              offset, " to ", offset + to.size()));
    }
    done += num;
  }
  return absl::OkStatus();
}

absl::Status StoreFile::WriteAt(int64_t offset, absl::Span<const std::byte> from) {
  for (size_t done = 0; done < from.size();) {
    const ssize_t num = pwrite(fd_, from.data() + done, from.size() - done,
                               static_cast<off_t>(offset + static_cast<int64_t>(done)));
    if (num < 0 && errno == EINTR) continue;
    if (num < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path_));
    done += num;
  }
  return absl::OkStatus();
}

absl::Status StoreFile::Truncate(int64_t size) {
  if (ftruncate(fd_, size) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot cut ", path_, " to ", size, " bytes"));
}

absl::Status StoreFile::Sync() {
  if (fsync(fd_) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path_, " to disk"));
}

absl::Status StoreFile::Lock() {
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(path_, " is being written by another process"));
}

void StoreFile::DropCache() const { posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }

absl::Status SyncDirectory(const std::string& dir) {
  const int fd = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = fd >= 0 && fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  return synced ? absl::OkStatus()
                : absl::ErrnoToStatus(error, absl::StrCat("cannot write ", dir, " to disk"));
}

}  // namespace orrery
