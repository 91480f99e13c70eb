// The slots of one expert process: the weights of some routed experts, and the feed-forward over
// rows that visit them.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Shard> shard, Shard::Load(source, range, &loaded_bytes));
//   shard->Run(frame, states, results);
//
// Stateless: an answer is a function of (model, layer, expert, row) only, so any copy can redo a
// lost call.
// Threads: Load anywhere; Run belongs to the serve loop; held() may be read from any thread.
#ifndef ORRERY_SERVICES_EXPERT_SHARD_H_
#define ORRERY_SERVICES_EXPERT_SHARD_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "device/device.h"
#include "exchange/exchange.h"
#include "kernels/kernels.h"
#include "model/numerics.h"
#include "model/weight_loader.h"
#include "placement/placement.h"

namespace orrery {

// What a shard is made from. kernels, device and stream outlive it; the checkpoint need not.
struct ShardParts {
  const Checkpoint* checkpoint = nullptr;
  ModelConfig config;
  Numerics numerics;
  Kernels* kernels = nullptr;
  Device* device = nullptr;
  Stream* stream = nullptr;
};

class Shard {
 public:
  // Loads the experts of `range` of every MoE layer. Only the files that hold them are opened.
  static absl::StatusOr<std::unique_ptr<Shard>> Load(const ShardParts& parts, ExpertRange range,
                                                     std::atomic<int64_t>* loaded_bytes);

  // Experts held, per MoE layer, ascending.
  const std::vector<LayerExperts>& held() const { return held_; }

  // Runs each entry's expert on its row. states[i] and the encoded results + i * result_bytes
  // belong to entries[i]; both are sized to the frame. Entries of experts that are not held get
  // kNotHeld.
  absl::Status Run(const InboundFrame& frame, std::vector<EntryState>& states,
                   std::vector<std::byte>& results);

  size_t row_bytes() const { return row_bytes_; }
  size_t result_bytes() const { return result_bytes_; }

 private:
  explicit Shard(const ShardParts& parts);
  // All entries of one expert, which are entries[indices...]: gather, feed-forward, scatter.
  absl::Status RunExpert(const FeedForwardWeights& weights, const InboundFrame& frame,
                         absl::Span<const int> indices, std::vector<std::byte>& results);
  absl::Status ReserveRows(int num_rows);

  ShardParts parts_;
  size_t row_bytes_ = 0;
  size_t result_bytes_ = 0;
  std::vector<LayerExperts> held_;
  std::map<std::pair<int, int>, FeedForwardWeights> slots_;  // (layer, expert)
  std::vector<std::pair<int, int>> order_;  // (expert, entry index) of the frame at hand
  // Scratch for the rows of one expert; grows to the largest frame seen, which is bounded by
  // kMaxFrameBytes.
  int max_rows_ = 0;
  Buffer encoded_;  // [max_rows] rows in, then results, encoded; pinned host
  Buffer rows_;     // [max_rows, hidden]
  Buffer out_;      // [max_rows, hidden]
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_SHARD_H_
