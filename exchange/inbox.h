// The frames that wait at a shard, and which of them run next, together. No I/O and no threads.
//
//   Inbox inbox(result_bytes);
//   inbox.Push(std::move(inbound));            // a frame came, from one of many connections
//   group = inbox.TakeGroup();                 // frames of one layer
//   inbox.DropTicket(source, ticket);          // a rank gave it up
//
// A group is led by the frame that came first, of the decode lane if one waits there. With it go
// all frames of its layer, decode lane first, each lane in the order of arrival, while their
// results fit kMaxGroupBytes: what visits one expert together reads its weights once.
//
// Two lanes, and what each is promised:
//   * decode goes first, and waits for bulk only while a group runs that bulk leads. Bulk frames
//     join a group that decode leads only while its results stay within kMaxMixedGroupBytes, the
//     size of one frame: so a guest makes no group larger than one decode frame may be by itself.
//   * bulk does not starve. After kMaxDecodeGroups groups led by decode frames while bulk frames
//     wait, the oldest bulk frame leads one: of nine groups at least one. The price: one token of a
//     model with 58 MoE layers lets 7 bulk groups pass when it is alone.
//   * within a lane the oldest frame leads, so a flood of one rank delays the frame of another by
//     what came before that frame, not by what comes after.
//
// It does not know what is in a row, and holds no limit on what waits: who pushes keeps one.
#ifndef ORRERY_EXCHANGE_INBOX_H_
#define ORRERY_EXCHANGE_INBOX_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "exchange/exchange.h"
#include "exchange/frame.h"

namespace orrery {

inline constexpr size_t kMaxMixedGroupBytes = kMaxFrameBytes;
inline constexpr int kMaxDecodeGroups = 8;

// A frame at a shard, from its arrival to its reply. frame.rows points into bytes.
struct Inbound {
  uint64_t source = 0;  // the connection that it came through
  FrameHeader header;
  InboundFrame frame;
  std::string bytes;
};

class Inbox {
 public:
  using Frames = std::vector<std::unique_ptr<Inbound>>;

  explicit Inbox(size_t result_bytes) : result_bytes_(result_bytes) {}

  void Push(std::unique_ptr<Inbound> inbound);
  bool empty() const;
  // Empty if nothing waits.
  Frames TakeGroup();
  // Take out what nobody waits for: the frames of a ticket, or all, that came through a connection.
  Frames DropTicket(uint64_t source, Ticket ticket);
  Frames DropSource(uint64_t source);
  void Clear();

 private:
  using LaneFrames = std::deque<std::unique_ptr<Inbound>>;
  LaneFrames& frames(Lane lane) { return lanes_[static_cast<int>(lane)]; }
  Lane NextLeader();
  // Moves frames of the layer into the group, oldest first, while it takes at most max_bytes.
  void Join(LaneFrames& waiting, int layer, size_t max_bytes, Frames& group, size_t& group_bytes);
  template <typename Predicate>
  Frames Drop(Predicate matches);

  const size_t result_bytes_;
  std::array<LaneFrames, kNumLanes> lanes_;
  int num_decode_groups_ = 0;  // in a row, while bulk frames waited
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_INBOX_H_
