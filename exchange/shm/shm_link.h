// One connection of either side, once it stands: frames out through one ring, in through the other,
// the socket as bell and as sign of life.
//
//   ShmLink link(std::move(socket), std::move(segment), ShmLink::Side::kRank, max_queued_bytes);
//   link.Send(frame);                                  // from any thread
//   ShmLink::Turn turn = link.TakeTurn(sink);          // when the socket can be read
//   if (!turn.status.ok()) it is over
//
// Send writes into the ring itself; a frame that finds it full waits in a queue of at most
// max_queued_bytes until the reader has made room and rung.
//
// Internal to exchange/shm.
// Threads: TakeTurn by one at a time, the rest from any. No lock is held while it calls the sink.
#ifndef ORRERY_EXCHANGE_SHM_SHM_LINK_H_
#define ORRERY_EXCHANGE_SHM_SHM_LINK_H_

#include <deque>
#include <mutex>
#include <string>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/channel.h"
#include "exchange/shm/fd.h"
#include "exchange/shm/ring.h"
#include "exchange/shm/segment.h"

namespace orrery {

class ShmLink {
 public:
  enum class Side { kRank, kShard };
  ShmLink(UniqueFd socket, Segment segment, Side side, size_t max_queued_bytes);

  int socket() const { return socket_.get(); }
  int memory() const { return segment_.fd(); }

  // As Channel::Send.
  bool Send(std::string frame);
  // The link is over, with this reason for the peer; TakeTurn will say so, which does not wait for
  // the peer. Idempotent.
  void End(const absl::Status& why);
  // Since when frames wait for room in the ring; InfiniteFuture if none do.
  absl::Time stuck_since();

  struct Turn {
    absl::Status status;   // not OK: over, and why
    bool brought = false;  // a frame
    bool again = false;    // there is more: do not wait for the bell
  };
  // Deals with a packet of the socket, with frames of the ring, and with what waits for room.
  Turn TakeTurn(ChannelSink& sink);

 private:
  absl::Status TakePacket();
  absl::Status TakeFrames(ChannelSink& sink, Turn& turn);
  absl::Status Flush();
  absl::Status WriteWaiting();  // the lock is held

  const UniqueFd socket_;
  const Segment segment_;
  const size_t max_queued_bytes_;
  RingReader reader_;  // TakeTurn's

  std::mutex mutex_;
  // Guarded by mutex_.
  RingWriter writer_;
  std::deque<std::string> waiting_;  // for room in the ring
  size_t waiting_bytes_ = 0;
  absl::Time stuck_since_ = absl::InfiniteFuture();
  absl::Status ended_;  // not OK: why
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_SHM_LINK_H_
