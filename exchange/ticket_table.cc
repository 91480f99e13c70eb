#include "exchange/ticket_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace orrery {

absl::StatusOr<Ticket> TicketTable::Open(const std::vector<Frame>& frames) {
  const auto slot =
      std::find_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return !slot.open; });
  if (slot == slots_.end()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all ", slots_.size(), " tickets are open: combine one first"));
  }
  slot->open = true;
  if (++slot->generation == 0) slot->generation = 1;
  slot->num_waiting = static_cast<int>(frames.size());
  slot->frames = frames;
  slot->outcomes.assign(frames.size(), Outcome());
  return Ticket{.slot = static_cast<uint32_t>(slot - slots_.begin()),
                .generation = slot->generation};
}

TicketTable::Verdict TicketTable::AcceptReply(const ReplyAddress& address, std::string reply) {
  return Settle(address, FrameState::kAnswered, std::move(reply));
}

TicketTable::Verdict TicketTable::Refuse(const ReplyAddress& address) {
  return Settle(address, FrameState::kRefused, std::string());
}

TicketTable::Verdict TicketTable::Settle(const ReplyAddress& address, FrameState state,
                                         std::string reply) {
  const auto [slot_index, generation] = address.ticket;
  if (slot_index >= slots_.size() || generation == 0) {
    ++counters_.malformed;
    return Verdict::kWrong;
  }
  Slot& slot = slots_[slot_index];
  if (!slot.open || generation != slot.generation) {
    // Generations wrap around: "older" is a difference in the lower half.
    const bool older = static_cast<int32_t>(generation - slot.generation) <= 0;
    ++(older ? counters_.late : counters_.malformed);
    return older ? Verdict::kLate : Verdict::kWrong;
  }
  if (address.frame_index >= slot.frames.size() ||
      slot.frames[address.frame_index].peer != address.peer ||
      slot.frames[address.frame_index].lane != address.lane) {
    ++counters_.malformed;
    return Verdict::kWrong;
  }
  Outcome& outcome = slot.outcomes[address.frame_index];
  if (outcome.state != FrameState::kWaiting) {
    ++counters_.duplicate;
    return Verdict::kDuplicate;
  }
  if (slot.frames[address.frame_index].num_entries != address.num_entries) {
    ++counters_.malformed;
    Transition(slot, address.frame_index, FrameState::kRefused);
    return Verdict::kWrong;
  }
  Transition(slot, address.frame_index, state);
  outcome.reply = std::move(reply);
  return Verdict::kAccepted;
}

void TicketTable::Transition(Slot& slot, size_t frame_index, FrameState to) {
  FrameState& state = slot.outcomes[frame_index].state;
  ORRERY_CHECK(state == FrameState::kWaiting && to != FrameState::kWaiting)
      << "frame " << frame_index << " from " << static_cast<int>(state) << " to "
      << static_cast<int>(to);
  state = to;
  --slot.num_waiting;
}

template <typename Predicate>
void TicketTable::LoseFrames(Predicate matches) {
  for (Slot& slot : slots_) {
    if (!slot.open) continue;
    for (size_t i = 0; i < slot.frames.size(); ++i) {
      if (slot.outcomes[i].state == FrameState::kWaiting && matches(slot.frames[i])) {
        Transition(slot, i, FrameState::kLost);
      }
    }
  }
}

void TicketTable::FrameLost(Ticket ticket, uint32_t frame_index) {
  ORRERY_CHECK(IsOpen(ticket)) << "slot " << ticket.slot << ", generation " << ticket.generation;
  Slot& slot = slots_[ticket.slot];
  ORRERY_CHECK(frame_index < slot.frames.size()) << frame_index << " of " << slot.frames.size();
  // PeerLost may have said so already.
  if (slot.outcomes[frame_index].state == FrameState::kWaiting) {
    Transition(slot, frame_index, FrameState::kLost);
  }
}

void TicketTable::PeerLost(int peer, Lane lane) {
  LoseFrames([=](const Frame& frame) { return frame.peer == peer && frame.lane == lane; });
}

void TicketTable::AllLost() {
  LoseFrames([](const Frame&) { return true; });
}

bool TicketTable::IsOpen(Ticket ticket) const {
  return ticket.slot < slots_.size() && slots_[ticket.slot].open &&
         slots_[ticket.slot].generation == ticket.generation;
}

bool TicketTable::Settled(Ticket ticket) const {
  ORRERY_CHECK(IsOpen(ticket)) << "slot " << ticket.slot << ", generation " << ticket.generation;
  return slots_[ticket.slot].num_waiting == 0;
}

std::vector<TicketTable::Frame> TicketTable::Waiting(Ticket ticket) const {
  ORRERY_CHECK(IsOpen(ticket)) << "slot " << ticket.slot << ", generation " << ticket.generation;
  const Slot& slot = slots_[ticket.slot];
  std::vector<Frame> waiting;
  for (size_t i = 0; i < slot.frames.size(); ++i) {
    if (slot.outcomes[i].state == FrameState::kWaiting) waiting.push_back(slot.frames[i]);
  }
  return waiting;
}

std::vector<TicketTable::Outcome> TicketTable::Close(Ticket ticket) {
  ORRERY_CHECK(IsOpen(ticket)) << "slot " << ticket.slot << ", generation " << ticket.generation;
  Slot& slot = slots_[ticket.slot];
  slot.open = false;
  slot.num_waiting = 0;
  slot.frames.clear();
  return std::exchange(slot.outcomes, {});
}

int TicketTable::num_open() const {
  return static_cast<int>(
      std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.open; }));
}

}  // namespace orrery
