// A frame as it crosses the network: with the sum of its bytes, so that what was changed on the way is
// refused, and never computed with, and with its number, so that it is noticed when one is missing. Header only.
//
//   queue.Push(Seal(std::move(frame)));                                 // who sends; OutQueue numbers it
//   Unsealer unsealer;                                                  // who receives: one for each stream
//   ASSIGN_OR_RETURN(std::string frame, unsealer.Unseal(message));
//
// TCP's own sum has 16 bits, and is made and checked by the network card, on the near side of what may
// go wrong in it. A bit that flips in the header of an HTTP/2 frame can make it one of another stream, which is
// skipped without a word; a frame that nobody waits for is then missed by its successor, so who waits in vain sends
// one: an empty one, a knock, which is answered by another. Frames that stay in one machine's memory (shm,
// loopback) have no seal.
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

class Unsealer {
 public:
  // DATA_LOSS, with both sums or both numbers. Takes the payload.
  absl::StatusOr<std::string> Unseal(internal::Frame& sealed) {
    const uint32_t sum = Crc32c(sealed.payload());
    if (sum != sealed.crc32c()) {
      return absl::DataLossError(absl::StrCat(
          "a frame of ", sealed.payload().size(), " bytes was changed on the way: its CRC-32C is ",
          absl::Hex(sum, absl::kZeroPad8), ", the sender's was ",
          absl::Hex(sealed.crc32c(), absl::kZeroPad8)));
    }
    ++num_frames_;
    if (sealed.number() != 0 && sealed.number() != num_frames_) {
      return absl::DataLossError(absl::StrCat("frame ", sealed.number(), " came where frame ",
                                              num_frames_, " was due: some were lost on the way"));
    }
    return std::move(*sealed.mutable_payload());
  }

 private:
  uint64_t num_frames_ = 0;
};

// Between who counts: sent because an answer is late, and answered by another one.
inline std::string MakeKnock() { return std::string(); }
inline bool IsKnock(const std::string& frame) { return frame.empty(); }

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_GRPC_SEALED_FRAME_H_
