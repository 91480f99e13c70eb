// What the two ends of an edge tell each other through the channel below, beside whole frames.
//
//   0               40
//   +---------------+----------------------------------------------------+
//   | MessageHeader | kInvite:   words of the rank's half                 |
//   |               | kAccept:   words of the shard's half                |
//   |               | kGreeting: nothing                                  |
//   |               | kUp:       nothing                                  |
//   |               | kDecline:  why, for people                          |
//   |               | kRows:     a frame without its rows                 |
//   |               | kFreed:    nothing                                  |
//   +---------------+----------------------------------------------------+
//
//   rank                                  shard
//   kInvite(attempt, words) --------->
//                                    <--- kAccept(words), or kDecline
//   ... both meet ...
//   kGreeting, and a greeting by the carrier ---->                  likewise the other way
//   kUp  ---->                      <---- kUp
//   kRows(num_row_bytes), and the rows by the carrier ---->          likewise the other way
//
// The first four bytes tell a message from a frame (exchange/frame.h).
//
// Errors: INVALID_ARGUMENT, saying which field, which value and which limit.
#ifndef ORRERY_EXCHANGE_EDGE_MESSAGE_H_
#define ORRERY_EXCHANGE_EDGE_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "exchange/frame.h"

namespace orrery {

inline constexpr uint32_t kMessageMagic = 0x4552524f;  // "ORRE"
inline constexpr uint16_t kMessageVersion = 3;

enum class MessageKind : uint8_t {
  kInvite = 1,
  kUp = 2,
  kDecline = 3,
  kRows = 4,
  kAccept = 5,
  kFreed = 6,
  kGreeting = 7,
};

struct MessageHeader {
  uint32_t magic = kMessageMagic;
  uint16_t version = kMessageVersion;
  MessageKind kind = MessageKind::kInvite;
  uint8_t reserved = 0;
  uint32_t attempt = 0;  // to form the edge; numbered by the rank
  uint32_t reserved2 = 0;
  uint64_t num_freed =
      0;  // of all rows of this attempt, those that the sender has taken out of its slots
  uint64_t num_row_bytes = 0;  // of kRows: what follows by the carrier
  uint64_t rows_hash = 0;      // of kRows: RowsHash of that
};
static_assert(sizeof(MessageHeader) == 40);
static_assert(offsetof(MessageHeader, num_freed) == 16);

// XXH3, 64 bits.
uint64_t RowsHash(std::string_view rows);

inline bool IsMessage(std::string_view bytes) {
  return bytes.size() >= sizeof(kMessageMagic) &&
         std::memcmp(bytes.data(), &kMessageMagic, sizeof(kMessageMagic)) == 0;
}

inline std::string EncodeMessage(const MessageHeader& header, std::string_view body) {
  std::string message(sizeof(header) + body.size(), '\0');
  std::memcpy(message.data(), &header, sizeof(header));
  std::memcpy(message.data() + sizeof(header), body.data(), body.size());
  return message;
}

struct MessageView {
  MessageHeader header;
  std::string_view body;  // of the parsed bytes
};

absl::StatusOr<MessageView> ParseMessage(std::string_view bytes);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_EDGE_MESSAGE_H_
