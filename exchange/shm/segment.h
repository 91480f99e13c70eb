// The memory that two processes share for one connection: a ring each way.
//
//   rank:   ASSIGN_OR_RETURN(Segment segment, Segment::Create(kRingBytes));   // pass segment.fd()
//   shard:  ASSIGN_OR_RETURN(Segment segment, Segment::Map(fd, ring_bytes));
//
//   0              128            4096                   4096 + ring_bytes
//   +--------------+--------------+----------------------+----------------------+
//   | to the shard | to the rank  | data to the shard    | data to the rank     |
//   | RingControl  | RingControl  |                      |                      |
//   +--------------+--------------+----------------------+----------------------+
//
// A memfd without a name, gone with the last process that maps it. Its pages are there from the
// start and its size is sealed: touching it never raises SIGBUS because the other side cut it off.
//
// Internal to exchange/shm.
// Errors: INVALID_ARGUMENT for memory that is not as it should be; what the system says.
#ifndef ORRERY_EXCHANGE_SHM_SEGMENT_H_
#define ORRERY_EXCHANGE_SHM_SEGMENT_H_

#include <cstddef>

#include "base/status.h"
#include "exchange/exchange.h"
#include "exchange/shm/fd.h"
#include "exchange/shm/ring.h"
#include "exchange/shm/ring_bytes.h"

namespace orrery {

// More is refused when a rank asks for it.
inline constexpr size_t kMaxRingBytes = 64 * kMaxFrameBytes;

class Segment {
 public:
  static absl::StatusOr<Segment> Create(size_t ring_bytes);
  // Of what a stranger passed: nothing about it is believed.
  static absl::StatusOr<Segment> Map(UniqueFd fd, size_t ring_bytes);
  Segment(Segment&& other) noexcept;
  Segment& operator=(Segment&&) = delete;
  ~Segment();

  int fd() const { return fd_.get(); }
  RingPlace to_shard() const { return Place(0); }
  RingPlace to_rank() const { return Place(1); }

 private:
  Segment(UniqueFd fd, std::byte* base, size_t ring_bytes)
      : fd_(std::move(fd)), base_(base), ring_bytes_(ring_bytes) {}
  static absl::StatusOr<Segment> MapChecked(UniqueFd fd, size_t ring_bytes);
  RingPlace Place(int direction) const;

  UniqueFd fd_;
  std::byte* base_;
  size_t ring_bytes_;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_SEGMENT_H_
