// The Unix socket beside the shared memory: who is there, a bell, and how it ended.
//
//   rank                                     shard
//   Connect(name)                            Listen(name), Accept(listening)
//   hello: lane, size of the rings, memory -->
//                                    <-- accepted: terms of a layer; or end: code and reason
//   bell -->          frames are in the ring              <-- bell
//   end of the file: the other process is gone
//
// Sockets of the abstract namespace with packets: no file stays behind, a packet comes whole, and
// the system tells when a process dies, however it does. Anybody on the host could connect or take
// the name first, so both sides ask the system whose process the other is: it must be of the same
// user.
//
// Nothing here blocks. Internal to exchange/shm.
// Errors: UNAVAILABLE when nobody listens or the peer is gone, PERMISSION_DENIED for another user's
// process, INVALID_ARGUMENT for packets that make no sense.
#ifndef ORRERY_EXCHANGE_SHM_SOCKET_H_
#define ORRERY_EXCHANGE_SHM_SOCKET_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "exchange/shm/fd.h"

namespace orrery {

inline constexpr uint32_t kShmVersion = 1;  // of the packets and of the memory

struct Packet {
  enum class Kind : uint32_t { kNone = 0, kBell = 1, kHello = 2, kAccepted = 3, kEnd = 4 };
  Kind kind = Kind::kNone;
  uint32_t lane = 0;  // of a hello, as the next
  uint32_t ring_bytes = 0;
  uint32_t code = 0;  // of an end: absl::StatusCode
  // Of a hello: the rank's name; of an accepted: the terms of the layer above the connection, if there is
  // one (exchange/channel.h); of an end: why.
  std::string text = {};
  UniqueFd memory = {};  // of a hello
};

// INVALID_ARGUMENT for a name that is empty or too long.
absl::StatusOr<UniqueFd> ListenAt(std::string_view name);
absl::StatusOr<UniqueFd> ConnectTo(std::string_view name);
// Not valid if nobody waits.
absl::StatusOr<UniqueFd> AcceptFrom(int listening);

// False if the peer is gone or does not read; then it learns of it in another way.
bool SendPacket(int socket, const Packet& packet);
void RingBell(int socket);
// kNone if there is none now.
absl::StatusOr<Packet> ReceivePacket(int socket);
// Ends both directions; the socket stays valid and both sides see the end of the file.
void ShutDown(int socket);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_SOCKET_H_
