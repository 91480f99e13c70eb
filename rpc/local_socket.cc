#include "rpc/local_socket.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace orrery {
namespace {

constexpr std::string_view kPrefix = "orrery-rpc/";
constexpr int kBacklog = 128;
constexpr int kPauseMs = 200;  // when the system has no room for one more

// Also the path of a URI, in which an IPv6 host may have no brackets.
std::string NameOf(const std::string& address) {
  return absl::StrReplaceAll(absl::StrCat(std::string(kPrefix), address), {{"[", "("}, {"]", ")"}});
}

struct Name {
  sockaddr_un un = {};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&un); }
};

// Nothing if it is too long: long host names do without.
std::optional<Name> MakeName(const std::string& address) {
  const std::string text = NameOf(address);
  Name name;
  if (text.size() + 1 > sizeof(name.un.sun_path)) return std::nullopt;
  name.un.sun_family = AF_UNIX;
  std::memcpy(name.un.sun_path + 1, text.data(), text.size());  // byte 0 is zero: abstract
  name.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  return name;
}

bool IsSameUser(int socket) {
  ucred peer = {};
  socklen_t length = sizeof(peer);
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
         peer.uid == ::geteuid();
}

int NewSocket() { return ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

absl::Status SystemError(const std::string& what) { return absl::ErrnoToStatus(errno, what); }

class LocalSocketImpl : public LocalSocket {
 public:
  LocalSocketImpl(int listening, int stop, std::function<void(int)> on_connection)
      : listening_(listening),
        stop_(stop),
        on_connection_(std::move(on_connection)),
        thread_([this] { Loop(); }) {}
  ~LocalSocketImpl() override {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(stop_, &one, sizeof(one));
    thread_.join();
    ::close(listening_);
    ::close(stop_);
  }

 private:
  void Loop() {
    int timeout_ms = -1;
    while (true) {
      // While it pauses it waits for the end alone.
      pollfd ready[] = {{stop_, POLLIN, 0}, {listening_, POLLIN, 0}};
      ::poll(ready, timeout_ms < 0 ? 2 : 1, timeout_ms);
      if (ready[0].revents != 0) return;
      timeout_ms = -1;
      const int socket = ::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (socket < 0) {
        const bool nobody = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
        if (!nobody) timeout_ms = kPauseMs;
      } else if (IsSameUser(socket)) {
        on_connection_(socket);
      } else {
        ::close(socket);
      }
    }
  }

  const int listening_;
  const int stop_;  // an eventfd
  const std::function<void(int)> on_connection_;
  std::thread thread_;  // last: it uses the others
};

}  // namespace

absl::StatusOr<std::unique_ptr<LocalSocket>> LocalSocket::Listen(
    const std::string& address, std::function<void(int socket)> on_connection) {
  const std::optional<Name> name = MakeName(address);
  if (!name.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("no local socket for the long ", address));
  }
  const int listening = NewSocket();
  if (listening < 0) return SystemError("local socket");
  const int stop = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop >= 0 && ::bind(listening, name->get(), name->length) == 0 &&
      ::listen(listening, kBacklog) == 0) {
    return std::make_unique<LocalSocketImpl>(listening, stop, std::move(on_connection));
  }
  const absl::Status status = SystemError(absl::StrCat("local socket for ", address));
  ::close(listening);
  if (stop >= 0) ::close(stop);
  return status;
}

bool SomebodyListensLocally(const std::string& address) {
  const std::optional<Name> name = MakeName(address);
  if (!name.has_value()) return false;
  const int socket = NewSocket();
  if (socket < 0) return false;
  const bool listens = ::connect(socket, name->get(), name->length) == 0 && IsSameUser(socket);
  ::close(socket);
  return listens;
}

std::string LocalTarget(const std::string& address) {
  return absl::StrCat("unix-abstract:", NameOf(address));
}

}  // namespace orrery
