#include "exchange/shm/socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

constexpr char kBell = 'b';
constexpr uint32_t kPacketMagic = 0x5352524f;  // "ORRS"
constexpr size_t kMaxTextBytes = 256;
constexpr int kBacklog = 64;

struct PacketHeader {
  uint32_t magic = kPacketMagic;
  uint32_t version = kShmVersion;
  uint32_t kind = 0;
  uint32_t lane = 0;
  uint32_t ring_bytes = 0;
  uint32_t code = 0;
};
static_assert(sizeof(PacketHeader) == 24);

struct Address {
  sockaddr_un un = {};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&un); }
};

absl::StatusOr<Address> AbstractAddress(std::string_view name) {
  constexpr std::string_view kPrefix = "orrery-exchange/";
  Address address;
  address.un.sun_family = AF_UNIX;
  const size_t longest = sizeof(address.un.sun_path) - 1 - kPrefix.size();
  if (name.empty() || name.size() > longest) {
    return absl::InvalidArgumentError(absl::StrCat("a shared memory exchange's name of ",
                                                   name.size(), " bytes; 1 to ", longest,
                                                   " are allowed"));
  }
  // Byte 0 is zero: the abstract namespace.
  std::memcpy(address.un.sun_path + 1, kPrefix.data(), kPrefix.size());
  std::memcpy(address.un.sun_path + 1 + kPrefix.size(), name.data(), name.size());
  address.length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + kPrefix.size() + name.size());
  return address;
}

absl::Status CheckSameUser(int socket) {
  ucred peer = {};
  socklen_t length = sizeof(peer);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return SystemError("SO_PEERCRED");
  }
  if (peer.uid == ::geteuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("process ", peer.pid, " is of user ", peer.uid, ", not of ", ::geteuid()));
}

absl::StatusOr<UniqueFd> NewSocket() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return SystemError("socket");
  return socket;
}

// Room for more than the one descriptor that a hello carries: what does not fit the system closes,
// and so do we with what is too much.
constexpr int kMaxDescriptors = 4;
union ControlBuffer {
  cmsghdr aligned;
  char bytes[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
};

UniqueFd TakeFirstDescriptor(msghdr& message) {
  UniqueFd first;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      UniqueFd owned(fd);
      if (!first.valid()) first = std::move(owned);
    }
  }
  return first;
}

absl::StatusOr<Packet> ParsePacket(std::string_view bytes) {
  Packet packet;
  if (bytes.size() == 1 && bytes[0] == kBell) {
    packet.kind = Packet::Kind::kBell;
    return packet;
  }
  PacketHeader header;
  if (bytes.size() < sizeof(header)) {
    return absl::InvalidArgumentError(absl::StrCat("packet of ", bytes.size(), " bytes"));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kPacketMagic || header.version != kShmVersion) {
    return absl::InvalidArgumentError(absl::StrCat("packet with magic ", header.magic,
                                                   " and version ", header.version, ", this is ",
                                                   kShmVersion));
  }
  packet.kind = static_cast<Packet::Kind>(header.kind);
  packet.lane = header.lane;
  packet.ring_bytes = header.ring_bytes;
  packet.code = header.code;
  packet.text = std::string(bytes.substr(sizeof(header)));
  switch (packet.kind) {
    case Packet::Kind::kHello:
    case Packet::Kind::kAccepted:
    case Packet::Kind::kEnd:
      return packet;
    default:
      return absl::InvalidArgumentError(absl::StrCat("packet of kind ", header.kind));
  }
}

}  // namespace

absl::StatusOr<UniqueFd> ListenAt(std::string_view name) {
  ASSIGN_OR_RETURN(const Address address, AbstractAddress(name));
  ASSIGN_OR_RETURN(UniqueFd socket, NewSocket());
  if (::bind(socket.get(), address.get(), address.length) != 0 ||
      ::listen(socket.get(), kBacklog) != 0) {
    return SystemError(absl::StrCat("listening at ", std::string(name)));
  }
  return socket;
}

absl::StatusOr<UniqueFd> ConnectTo(std::string_view name) {
  ASSIGN_OR_RETURN(const Address address, AbstractAddress(name));
  ASSIGN_OR_RETURN(UniqueFd socket, NewSocket());
  if (::connect(socket.get(), address.get(), address.length) != 0) {
    return absl::UnavailableError(
        absl::StrCat("nobody listens at ", std::string(name), ": ", std::strerror(errno)));
  }
  RETURN_IF_ERROR(CheckSameUser(socket.get()));
  return socket;
}

absl::StatusOr<UniqueFd> AcceptFrom(int listening) {
  UniqueFd socket(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return UniqueFd();
    return SystemError("accept");
  }
  RETURN_IF_ERROR(CheckSameUser(socket.get()));
  return socket;
}

bool SendPacket(int socket, const Packet& packet) {
  PacketHeader header{.kind = static_cast<uint32_t>(packet.kind),
                      .lane = packet.lane,
                      .ring_bytes = packet.ring_bytes,
                      .code = packet.code};
  std::array<iovec, 2> parts = {
      iovec{&header, sizeof(header)},
      iovec{const_cast<char*>(packet.text.data()), std::min(packet.text.size(), kMaxTextBytes)}};
  msghdr message = {};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  ControlBuffer control = {};
  if (packet.memory.valid()) {
    const int fd = packet.memory.get();
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(sizeof(fd));
    cmsghdr* const part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(fd));
    std::memcpy(CMSG_DATA(part), &fd, sizeof(fd));
  }
  return ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
}

void RingBell(int socket) {
  // If it does not fit, earlier bells wait there and will do; if the peer is gone, so does the end.
  [[maybe_unused]] const ssize_t sent =
      ::send(socket, &kBell, sizeof(kBell), MSG_DONTWAIT | MSG_NOSIGNAL);
}

absl::StatusOr<Packet> ReceivePacket(int socket) {
  std::array<char, sizeof(PacketHeader) + kMaxTextBytes> buffer;
  iovec whole = {buffer.data(), buffer.size()};
  ControlBuffer control = {};
  msghdr message = {};
  message.msg_iov = &whole;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof(control.bytes);
  const ssize_t size = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) {
    if (errno == EAGAIN || errno == EINTR) return Packet();
    return absl::UnavailableError(
        absl::StrCat("the other process is gone: ", std::strerror(errno)));
  }
  UniqueFd memory = TakeFirstDescriptor(message);
  if (size == 0) return absl::UnavailableError("the other process is gone");
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return absl::InvalidArgumentError("a packet that is too long");
  }
  ASSIGN_OR_RETURN(Packet packet,
                   ParsePacket(std::string_view(buffer.data(), static_cast<size_t>(size))));
  packet.memory = std::move(memory);
  return packet;
}

void ShutDown(int socket) { ::shutdown(socket, SHUT_RDWR); }

}  // namespace orrery
