// What the buffers of an exchange hold at most, from what a step of a rank asks for: how long queues may get, and
// the sum.
//
//   options.max_queued_bytes = QueuedBytesFor(options, max_entries);
//   options.max_inbox_bytes = InboxBytesFor(options, num_ranks);
//   RankBufferBytes(options, num_peers, max_entries)
//   ShardBufferBytes(options, num_ranks)
//
// max_entries: visits of rows to experts in one layer of a step, max_step_rows * experts per token. In a bad case all
// of them go to one shard.
//
// Header only.
#ifndef ORRERY_EXCHANGE_BUFFER_BYTES_H_
#define ORRERY_EXCHANGE_BUFFER_BYTES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "exchange/exchange.h"

namespace orrery {

// Of a layer's entries: asked, asked a second time beside a late answer, once more after a loss, kept for a comparison;
// and as much of the layers before, at a peer that has stopped reading and is not yet seen to be late.
inline constexpr size_t kMaxAsks = 8;
// Of an entry beside its row, in frames and as objects.
inline constexpr size_t kEntryBytes = 16;

inline size_t LayerBytes(const ExchangeOptions& options, int64_t max_entries) {
  return max_entries * (std::max(options.row_bytes, options.result_bytes) + kEntryBytes);
}

// Towards one peer in one lane: at least one frame, and never more than the default.
inline size_t QueuedBytesFor(const ExchangeOptions& options, int64_t max_entries) {
  return std::clamp(kMaxAsks * LayerBytes(options, max_entries), kMaxFrameBytes,
                    ExchangeOptions().max_queued_bytes);
}

// A rank has one step at a time, a layer of each of its rows, in one lane or the other.
inline size_t InboxBytesFor(const ExchangeOptions& options, int num_ranks) {
  return num_ranks * options.max_queued_bytes;
}

// Frames to the peers, a queue for each lane; replies until they are combined, and what is kept for comparisons.
inline size_t RankBufferBytes(const ExchangeOptions& options, int num_peers, int64_t max_entries) {
  return num_peers * kNumLanes * options.max_queued_bytes +
         2 * kMaxAsks * LayerBytes(options, max_entries);
}

// The inbox, whose frames are unpacked beside their bytes (an eighth more), and replies, a queue for each lane.
inline size_t ShardBufferBytes(const ExchangeOptions& options, int num_ranks) {
  return options.max_inbox_bytes + options.max_inbox_bytes / 8 +
         num_ranks * kNumLanes * options.max_queued_bytes;
}

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_BUFFER_BYTES_H_
