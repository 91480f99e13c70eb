#include "exchange/inbox.h"

#include <algorithm>
#include <utility>

namespace orrery {

void Inbox::Push(std::unique_ptr<Inbound> inbound) {
  frames(inbound->frame.lane).push_back(std::move(inbound));
}

bool Inbox::empty() const {
  return std::all_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane.empty(); });
}

Lane Inbox::NextLeader() {
  const bool decode_waits = !frames(Lane::kDecode).empty();
  const bool bulk_waits = !frames(Lane::kBulk).empty();
  if (!decode_waits || (bulk_waits && num_decode_groups_ >= kMaxDecodeGroups)) {
    num_decode_groups_ = 0;
    return Lane::kBulk;
  }
  num_decode_groups_ = bulk_waits ? num_decode_groups_ + 1 : 0;
  return Lane::kDecode;
}

Inbox::Frames Inbox::TakeGroup() {
  Frames group;
  if (empty()) return group;
  const Lane lane = NextLeader();
  LaneFrames& leading = frames(lane);
  group.push_back(std::move(leading.front()));
  leading.pop_front();
  const int layer = group.front()->frame.layer;
  size_t group_bytes = group.front()->frame.entries.size() * result_bytes_;
  Join(frames(Lane::kDecode), layer, kMaxGroupBytes, group, group_bytes);
  Join(frames(Lane::kBulk), layer, lane == Lane::kDecode ? kMaxMixedGroupBytes : kMaxGroupBytes,
       group, group_bytes);
  return group;
}

void Inbox::Join(LaneFrames& waiting, int layer, size_t max_bytes, Frames& group,
                 size_t& group_bytes) {
  bool joined = false;
  for (std::unique_ptr<Inbound>& inbound : waiting) {
    if (inbound->frame.layer != layer) continue;
    const size_t bytes = inbound->frame.entries.size() * result_bytes_;
    if (group_bytes + bytes > max_bytes) break;  // nor may a smaller one pass it
    group_bytes += bytes;
    group.push_back(std::move(inbound));
    joined = true;
  }
  if (joined) std::erase(waiting, nullptr);
}

template <typename Predicate>
Inbox::Frames Inbox::Drop(Predicate matches) {
  Frames dropped;
  for (LaneFrames& waiting : lanes_) {
    for (std::unique_ptr<Inbound>& inbound : waiting) {
      if (matches(*inbound)) dropped.push_back(std::move(inbound));
    }
    std::erase(waiting, nullptr);
  }
  return dropped;
}

Inbox::Frames Inbox::DropTicket(uint64_t source, Ticket ticket) {
  return Drop([&](const Inbound& inbound) {
    return inbound.source == source && inbound.header.ticket_slot == ticket.slot &&
           inbound.header.ticket_generation == ticket.generation;
  });
}

Inbox::Frames Inbox::DropSource(uint64_t source) {
  return Drop([&](const Inbound& inbound) { return inbound.source == source; });
}

void Inbox::Clear() {
  for (LaneFrames& waiting : lanes_) waiting.clear();
}

}  // namespace orrery
