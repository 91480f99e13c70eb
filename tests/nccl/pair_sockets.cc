#include "tests/nccl/pair_sockets.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace nccl_on_host {
namespace {

// How long nobody looks whether to stop.
constexpr int kLookMs = 2;

int OpenSocket() { return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

socklen_t Address(const std::string& name, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

bool IsRefusedForNow() { return errno == EAGAIN || errno == EINTR; }

void AwaitReady(int socket, short events) {
  pollfd poll_fd = {.fd = socket, .events = events, .revents = 0};
  poll(&poll_fd, 1, kLookMs);
}

}  // namespace

PairSockets::~PairSockets() {
  for (int fd : {listener_, sockets_[0], sockets_[1]}) {
    if (fd >= 0) close(fd);
  }
}

bool PairSockets::Join(const std::string& name, int member) {
  sockaddr_un address;
  const socklen_t address_bytes = Address(name, address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (member == 0 && listener_ < 0) {
    listener_ = OpenSocket();
    if (bind(listener_, generic, address_bytes) != 0) return false;
    if (listen(listener_, 2) != 0) return false;
  }
  for (int& fd : sockets_) {
    if (fd >= 0) continue;
    if (member == 0) {
      AwaitReady(listener_, POLLIN);
      fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return false;
    } else {
      const int connecting = OpenSocket();
      if (connect(connecting, generic, address_bytes) != 0) {
        close(connecting);
        poll(nullptr, 0, kLookMs);
        return false;
      }
      fd = connecting;
    }
  }
  return true;
}

bool PairSockets::Write(int direction, const void* data, size_t num_bytes,
                        const std::function<bool()>& stop) {
  const char* next = static_cast<const char*>(data);
  while (num_bytes > 0 && !stop()) {
    const ssize_t n = send(sockets_[direction], next, num_bytes, MSG_NOSIGNAL);
    if (n > 0) {
      next += n;
      num_bytes -= static_cast<size_t>(n);
    } else if (IsRefusedForNow()) {
      AwaitReady(sockets_[direction], POLLOUT);
    } else {
      return false;
    }
  }
  return num_bytes == 0;
}

bool PairSockets::Read(int direction, void* data, size_t num_bytes,
                       const std::function<bool()>& stop) {
  char* next = static_cast<char*>(data);
  while (num_bytes > 0 && !stop()) {
    const ssize_t n = recv(sockets_[direction], next, num_bytes, 0);
    if (n > 0) {
      next += n;
      num_bytes -= static_cast<size_t>(n);
    } else if (n < 0 && IsRefusedForNow()) {
      AwaitReady(sockets_[direction], POLLIN);
    } else {
      return false;
    }
  }
  return num_bytes == 0;
}

}  // namespace nccl_on_host
