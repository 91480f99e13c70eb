// The slots of one expert process: the weights of some routed experts, and the feed-forward over
// rows that visit them.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Shard> shard, Shard::Load(source, range, &loaded_bytes));
//   for (const FrameAnswer& answer : shard->Run(group)) ...      // answer i is of group[i]
//
// Stateless: an answer is a function of (model, layer, expert, row) only, so any copy can redo a
// lost call, and it does not matter what else is in the group: all experts run at once, each over
// all rows that visit it, whichever frame they came in, as if each row were alone.
//
// What it does not hold it may be able to load: SetHeir says who is told, and decides (copies.h). Slots
// come and go between two runs.
//
// Memory: scratch for a group of kMaxGroupBytes of results is reserved by Load, beside it Run
// allocates nothing (kernels have scratch of their own).
// Threads: Load and num_rows anywhere; everything else belongs to the serve loop, whose thread and the
// exchange's call it one at a time (ServeLoop::Change lets others in between).
#ifndef ORRERY_SERVICES_EXPERT_SHARD_H_
#define ORRERY_SERVICES_EXPERT_SHARD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/memory_need.h"
#include "base/status.h"
#include "checkpoint/model_config.h"
#include "device/device.h"
#include "exchange/exchange.h"
#include "kernels/kernels.h"
#include "model/numerics.h"
#include "model/weight_files.h"
#include "model/weight_loader.h"
#include "placement/placement.h"

namespace orrery {

// What a shard is made from. kernels, device and stream outlive it; the files need not.
struct ShardParts {
  const WeightFiles* files = nullptr;
  ModelConfig config;
  Numerics numerics;
  bool with_mtp = false;  // the experts of the MTP module too
  Kernels* kernels = nullptr;
  Device* device = nullptr;
  Stream* stream = nullptr;
};

// What becomes of entries whose expert is not held.
struct MissingAnswer {
  EntryState state = EntryState::kNotHeld;
  uint32_t eta_ms = 0;  // if kLoading
};
// Asked by Run, once for each such expert, with the number of rows that visit it. Must not block.
using AskHeir = std::function<MissingAnswer(ExpertKey key, int num_rows)>;

class Shard {
 public:
  // One expert's weights; scales and dtypes other than bf16 and fp8 are not counted.
  static int64_t EstimateExpertBytes(const ModelConfig& config);
  // What Load will load, for a progress bar.
  static int64_t EstimateBytes(const ModelConfig& config, ExpertRange range, bool with_mtp);
  // What Load will take of the device's memory, kernels included: of weights, and beside them.
  struct Memory {
    size_t weights = 0;
    size_t scratch = 0;
    // Of one expert's weights.
    size_t expert = 0;
    // Of the host's memory, whatever the device: pinned and for answers; and while weights are loaded.
    size_t host = 0;
    size_t loading = 0;
    // Of the device's.
    size_t total() const { return weights + scratch; }
    MemoryNeed DeviceNeed() const;
  };
  static absl::StatusOr<Memory> CountMemory(const ShardParts& parts, ExpertRange range);
  // Loads the experts of `range` of every MoE layer. Only the files that hold them are opened.
  static absl::StatusOr<std::unique_ptr<Shard>> Load(const ShardParts& parts, ExpertRange range,
                                                     std::atomic<int64_t>* loaded_bytes);

  // For tests: called with each result, which it may spoil (bit_flips.h).
  void SetHarm(std::function<void(absl::Span<std::byte>)> harm) { harm_ = std::move(harm); }
  void SetHeir(AskHeir ask_heir) { ask_heir_ = std::move(ask_heir); }

  // One slot more, of a MoE layer; or one less, if it is there.
  void Add(ExpertKey key, FeedForwardWeights weights);
  void Remove(ExpertKey key);
  // Experts held, per MoE layer, ascending.
  const std::vector<LayerExperts>& held() const { return held_; }
  // Rows that an expert was run over, since the start. From any thread, as the next two.
  int64_t num_rows(ExpertKey key) const;
  const std::vector<int>& moe_layers() const { return moe_layers_; }
  int num_experts() const { return parts_.config.num_experts; }  // of each of these layers

  // Runs each entry's expert on its row, for frames of one layer whose results take at most
  // kMaxGroupBytes. Entries of experts that are not held get what the heir says, else kNotHeld; entries
  // that name no row of their frame get kRefused, and no other entry is touched by that. If the processor
  // fails, all entries that were to be run get kRefused. Answers are valid until the next Run.
  absl::Span<const FrameAnswer> Run(absl::Span<const InboundFrame> group);

  size_t row_bytes() const { return row_bytes_; }
  size_t result_bytes() const { return result_bytes_; }

 private:
  // One entry of a group: entries of all its frames are numbered through.
  struct Visit {
    int expert = 0;
    int entry = 0;
    const std::byte* row = nullptr;  // encoded
  };

  explicit Shard(const ShardParts& parts);
  absl::Status Allocate();
  // Of what Allocate reserves beside the device's buffers.
  size_t AnswerBytes() const;
  ScratchLimits LargestCall(ExpertRange range) const;
  // Fills visits_, by expert, and answers_; refuses what names no row.
  void ListVisits(absl::Span<const InboundFrame> group);
  // One for each expert that is visited and held: fills feed_forwards_, and keeps the visits to these.
  void ListFeedForwards(int layer);
  // The place in num_rows_ of one that exists.
  size_t CounterOf(ExpertKey key) const;
  void AskForMissing(ExpertKey key, absl::Span<const Visit> visits);
  // Gather, all feed-forwards at once, scatter.
  absl::Status RunFeedForwards();

  ShardParts parts_;
  size_t row_bytes_ = 0;
  size_t result_bytes_ = 0;
  AskHeir ask_heir_;
  std::function<void(absl::Span<std::byte>)> harm_;
  std::vector<LayerExperts> held_;
  std::map<std::pair<int, int>, FeedForwardWeights> slots_;  // (layer, expert)
  const std::vector<int> moe_layers_;                        // ascending
  std::vector<std::atomic<int64_t>> num_rows_;               // [moe layers, num_experts]

  // Scratch for one group.
  size_t max_entries_ = 0;
  std::vector<Visit> visits_;
  std::vector<FeedForwardArgs> feed_forwards_;
  std::vector<FrameAnswer> answers_;
  std::vector<EntryState> states_;  // [max_entries]
  std::vector<std::byte> results_;  // [max_entries] encoded
  Buffer encoded_;                  // [max_entries] rows in, then results, encoded; pinned host
  Buffer rows_;                     // [max_entries, hidden]
  Buffer out_;                      // [max_entries, hidden]
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_SHARD_H_
