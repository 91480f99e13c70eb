// A file descriptor that closes itself. Header only.
//
//   UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
//   if (!socket.valid()) return SystemError("socket");
//
// Internal to exchange/shm.
#ifndef ORRERY_EXCHANGE_SHM_FD_H_
#define ORRERY_EXCHANGE_SHM_FD_H_

#include <errno.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace orrery {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd() {
    if (fd_ >= 0) ::close(fd_);
  }
  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// What errno says of a failed system call.
inline absl::Status SystemError(std::string_view what) {
  const int error = errno;
  return absl::ErrnoToStatus(error, absl::StrCat("shared memory exchange: ", std::string(what)));
}

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_FD_H_
