// One direction of an edge by NCCL: a communicator of two members, of which one sends and the other receives,
// and the stream that it has to itself. Every call of NCCL that the exchange makes.
//
//   const NcclId id = *MakeNcclId();                 // one side, which tells the other
//   auto sender = *NcclMover::Make({.direction = Direction::kSend}, std::move(slots));
//   sender->Join(id);
//
// Start copies to the device first, and Finish of a receiver copies to the host. The communicator is
// non-blocking: Ready() says false until it has joined, and until NCCL has put an operation on the stream. The
// destructor aborts what is under way.
//
// Errors: UNAVAILABLE, naming the call and NCCL's word for what happened. INTERNAL if NCCL cannot be used at all.
// Threads: one at a time.
#ifndef ORRERY_EXCHANGE_NCCL_NCCL_MOVER_H_
#define ORRERY_EXCHANGE_NCCL_NCCL_MOVER_H_

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "exchange/edge/mover.h"
#include "exchange/edge/slots.h"

namespace orrery {

using NcclId = std::array<char, 128>;  // NCCL_UNIQUE_ID_BYTES

// Of the two communicators of an edge: the words of a rank's half. A shard's has none.
struct NcclIds {
  NcclId to_shard = {};
  NcclId to_rank = {};
};
static_assert(sizeof(NcclIds) == 256);

// As NCCL counts: 22809 is 2.28.9.
absl::StatusOr<int> NcclVersion();
std::string NcclVersionText(int version);  // "2.28.9"
absl::StatusOr<NcclId> MakeNcclId();

struct NcclMoverOptions {
  Direction direction = Direction::kSend;  // the value is the member's number
  int device_index = 0;
};

class NcclMover : public Mover {
 public:
  static absl::StatusOr<std::unique_ptr<NcclMover>> Make(const NcclMoverOptions& options,
                                                         Slots slots);
  // Begins to join, once; the other member may come later. From then on Ready() may be asked.
  virtual absl::Status Join(const NcclId& id) = 0;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_NCCL_NCCL_MOVER_H_
