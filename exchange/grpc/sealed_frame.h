// A frame as it crosses the network: with the sum of its bytes, so that what was changed on the way is
// refused, and never computed with. Header only.
//
//   queue.Push(Seal(std::move(frame)));                                 // who sends
//   ASSIGN_OR_RETURN(std::string frame, Unseal(message));    // who receives
//
// TCP's own sum has 16 bits, and is made and checked by the network card, on the near side of what may
// go wrong in it. Frames that stay in one machine's memory (shm, loopback) have no seal.
#ifndef ORRERY_EXCHANGE_GRPC_SEALED_FRAME_H_
#define ORRERY_EXCHANGE_GRPC_SEALED_FRAME_H_

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/crc32c.h"
#include "base/status.h"
#include "proto/expert.pb.h"

namespace orrery {

inline internal::Frame Seal(std::string frame) {
  internal::Frame sealed;
  sealed.set_crc32c(Crc32c(frame));
  sealed.set_payload(std::move(frame));
  return sealed;
}

// DATA_LOSS, with both sums. Takes the payload.
inline absl::StatusOr<std::string> Unseal(internal::Frame& sealed) {
  const uint32_t sum = Crc32c(sealed.payload());
  if (sum != sealed.crc32c()) {
    return absl::DataLossError(absl::StrCat("a frame of ", sealed.payload().size(),
                                            " bytes was changed on the way: its CRC-32C is ",
                                            absl::Hex(sum, absl::kZeroPad8), ", the sender's was ",
                                            absl::Hex(sealed.crc32c(), absl::kZeroPad8)));
  }
  return std::move(*sealed.mutable_payload());
}

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_GRPC_SEALED_FRAME_H_
