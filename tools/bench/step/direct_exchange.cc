#include "tools/bench/step/direct_exchange.h"

#include <algorithm>
#include <cstring>

namespace orrery {

absl::StatusOr<Ticket> DirectExchange::Dispatch(int layer, Lane lane, const DispatchPlan& plan,
                                                absl::Span<const std::byte> rows) {
  ++num_dispatches_;
  entries_.clear();
  results_.clear();
  // In groups that the shard's scratch holds, as an inbox would cut them.
  const size_t max_entries = kMaxGroupBytes / shard_->result_bytes();
  for (const PeerEntries& peer : plan) {
    for (size_t begin = 0; begin < peer.entries.size(); begin += max_entries) {
      const size_t end = std::min(peer.entries.size(), begin + max_entries);
      InboundFrame frame;
      frame.layer = layer;
      frame.lane = lane;
      frame.num_rows = static_cast<int>(rows.size() / shard_->row_bytes());
      frame.rows = rows.data();
      for (size_t i = begin; i < end; ++i) {
        frame.entries.push_back({.row = peer.entries[i].row, .expert = peer.entries[i].expert});
      }
      const FrameAnswer answer = shard_->Run({&frame, 1})[0];
      for (size_t i = begin; i < end; ++i) {
        entries_.push_back({.entry = peer.entries[i], .state = answer.states[i - begin]});
      }
      results_.insert(results_.end(), answer.results.begin(), answer.results.end());
    }
  }
  return Ticket{};
}

CombineReport DirectExchange::Combine(Ticket, absl::Time, absl::Span<std::byte> results) {
  CombineReport report;
  const size_t size = shard_->result_bytes();
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].state == EntryState::kDone) {
      std::memcpy(results.data() + entries_[i].entry.result * size, results_.data() + i * size,
                  size);
    } else {
      report.push_back(entries_[i]);
    }
  }
  return report;
}

}  // namespace orrery
