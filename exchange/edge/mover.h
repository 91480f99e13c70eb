// What moves the rows of one direction of an edge: this side's end of it, with slots of a frame's size.
//
//   RETURN_IF_ERROR(mover->Meet(words));           // of the other end
//   ... until *mover->Ready() ...                  // it can be asked
//   mover->Start(slot, num_bytes);                 // a sender's rows lie in host(slot)
//   ... until *mover->Ready() ...                  // it has done its part of that
//   mover->Finish(slot, num_bytes);
//   ... until *mover->IsOver(slot) ...             // a receiver's rows lie in host(slot)
//
// A mover only sends or only receives. Nothing but the destructor blocks: how often to look, and for how
// long, decides the caller (pipe.h). After an error only the destructor may be called.
//
// Errors: UNAVAILABLE or INTERNAL, naming the call and the library's word for what happened.
// Threads: one at a time.
#ifndef ORRERY_EXCHANGE_EDGE_MOVER_H_
#define ORRERY_EXCHANGE_EDGE_MOVER_H_

#include <cstddef>
#include <string_view>

#include "base/status.h"
#include "exchange/exchange.h"

namespace orrery {

inline constexpr size_t kSlotBytes = kMaxFrameBytes;
inline constexpr int kSlotsPerPipe = 4;  // frames under way: as many as tickets

enum class Direction { kSend = 0, kReceive = 1 };

class Mover {
 public:
  // Ends what is under way, and waits until nothing uses the slots any more. May block.
  virtual ~Mover() = default;
  // Once. words: what the other end's carrier said of its half (carrier.h).
  virtual absl::Status Meet(std::string_view words) = 0;
  virtual int num_slots() const = 0;
  virtual std::byte* host(int slot) const = 0;  // [kSlotBytes], left alone until the slot is over
  // Whether it has done its part of what it was last asked for; until then it must not be asked for
  // anything. An error if it is lost.
  virtual absl::StatusOr<bool> Ready() = 0;
  virtual absl::Status Start(int slot, size_t num_bytes) = 0;
  virtual absl::Status Finish(int slot, size_t num_bytes) = 0;
  virtual absl::StatusOr<bool> IsOver(int slot) = 0;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_EDGE_MOVER_H_
