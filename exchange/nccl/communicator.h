// One NCCL communicator of two members, of which one sends and the other receives, and the stream that
// it has to itself: every call of NCCL and CUDA that the exchange makes.
//
//   const NcclId id = *Communicator::MakeId();          // one side, which tells the other
//   auto sender = *Communicator::Start({.id = id, .direction = Direction::kSend});
//   ... until *sender->Ready() ...                       // it has joined
//   sender->Send(host, device, num_bytes);               // between pinned and device memory of its own
//   ... until *sender->Ready() ...                       // NCCL has put it on the stream
//   sender->Mark(slot);  ... until *sender->IsOver(slot) ...
//
// Nothing but the destructor blocks: the communicator is non-blocking, and who looks again how far it is,
// and for how long, decides the caller. After an error only the destructor may be called.
//
// Errors: UNAVAILABLE, naming the call and NCCL's or CUDA's word for what happened. INTERNAL if NCCL cannot
// be used at all.
// Threads: one at a time.
#ifndef ORRERY_EXCHANGE_NCCL_COMMUNICATOR_H_
#define ORRERY_EXCHANGE_NCCL_COMMUNICATOR_H_

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "base/status.h"

namespace orrery {

using NcclId = std::array<char, 128>;  // NCCL_UNIQUE_ID_BYTES

enum class Direction { kSend = 0, kReceive = 1 };  // the value is the member's number

struct CommunicatorOptions {
  NcclId id = {};
  Direction direction = Direction::kSend;
  int device_index = 0;
  int num_slots = 1;  // operations that may be marked at a time
};

class Communicator {
 public:
  // As NCCL counts: 22809 is 2.28.9.
  static absl::StatusOr<int> NcclVersion();
  static absl::StatusOr<NcclId> MakeId();

  // Begins to join; the other member may come later.
  static absl::StatusOr<std::unique_ptr<Communicator>> Start(const CommunicatorOptions& options);
  // Aborts what is under way, and waits until the stream has let go of all memory. May block.
  virtual ~Communicator() = default;

  // Whether NCCL has done its part of what it was last asked for; an error if the communicator is
  // lost. Until it is ready it must not be asked for anything.
  virtual absl::StatusOr<bool> Ready() = 0;
  // host and device: num_bytes each, left alone until the operation is over. Send copies to the
  // device first; a receiver copies to the host once Ready, with Mark.
  virtual absl::Status Send(const std::byte* host, std::byte* device, size_t num_bytes) = 0;
  virtual absl::Status Receive(std::byte* device, size_t num_bytes) = 0;
  virtual absl::Status CopyToHost(std::byte* host, const std::byte* device, size_t num_bytes) = 0;
  // Remembers the end of what is on the stream now.
  virtual absl::Status Mark(int slot) = 0;
  virtual absl::StatusOr<bool> IsOver(int slot) = 0;
};

// "2.28.9".
std::string NcclVersionText(int version);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_NCCL_COMMUNICATOR_H_
