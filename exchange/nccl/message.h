// What the two ends of an edge tell each other through the channel below, beside whole frames.
//
//   0               24
//   +---------------+----------------------------------------------------+
//   | MessageHeader | kInvite:  Ids                                       |
//   |               | kUp:      nothing                                   |
//   |               | kDecline: why, for people                           |
//   |               | kRows:    a frame without its rows                  |
//   +---------------+----------------------------------------------------+
//
//   rank                                  shard
//   kInvite(attempt, version, ids) ---->  versions differ, or no room: kDecline
//   ... both join, and move a greeting in each direction ...
//   kUp  ---->                      <---- kUp
//   kRows(num_row_bytes), by NCCL the rows ---->            likewise the other way
//
// The first four bytes tell a message from a frame (exchange/frame.h). Header only.
//
// Errors: INVALID_ARGUMENT, saying which field, which value and which limit.
#ifndef ORRERY_EXCHANGE_NCCL_MESSAGE_H_
#define ORRERY_EXCHANGE_NCCL_MESSAGE_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "exchange/frame.h"
#include "exchange/nccl/communicator.h"

namespace orrery {

inline constexpr uint32_t kMessageMagic = 0x4e52524f;  // "ORRN"
inline constexpr uint16_t kMessageVersion = 1;

enum class MessageKind : uint8_t { kInvite = 1, kUp = 2, kDecline = 3, kRows = 4 };

struct MessageHeader {
  uint32_t magic = kMessageMagic;
  uint16_t version = kMessageVersion;
  MessageKind kind = MessageKind::kInvite;
  uint8_t reserved = 0;
  uint32_t attempt = 0;        // to form the edge; numbered by the rank
  uint32_t nccl_version = 0;   // the sender's
  uint64_t num_row_bytes = 0;  // of kRows: what NCCL brings
};
static_assert(sizeof(MessageHeader) == 24);

// Of the two communicators of an edge.
struct Ids {
  NcclId to_shard = {};
  NcclId to_rank = {};
};
static_assert(sizeof(Ids) == 256);

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

inline absl::StatusOr<MessageView> ParseMessage(std::string_view bytes) {
  MessageView view;
  if (bytes.size() < sizeof(view.header)) {
    return absl::InvalidArgumentError(absl::StrCat("malformed message: length ", bytes.size(),
                                                   ", the header takes ", sizeof(view.header)));
  }
  std::memcpy(&view.header, bytes.data(), sizeof(view.header));
  view.body = bytes.substr(sizeof(view.header));
  if (view.header.version != kMessageVersion) {
    return absl::InvalidArgumentError(absl::StrCat("malformed message: version ",
                                                   view.header.version, ", this side speaks ",
                                                   kMessageVersion));
  }
  if (view.header.num_row_bytes > kMaxFrameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("malformed message: ", view.header.num_row_bytes,
                                                   " bytes of rows, at most ", kMaxFrameBytes));
  }
  return view;
}

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_NCCL_MESSAGE_H_
