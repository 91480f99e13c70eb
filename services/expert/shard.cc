#include "services/expert/shard.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace orrery {

Shard::Shard(const ShardParts& parts)
    : parts_(parts),
      row_bytes_(EncodedRowBytes(parts.numerics.row_format, parts.config.hidden_size)),
      result_bytes_(EncodedRowBytes(parts.numerics.result_format(), parts.config.hidden_size)) {}

absl::StatusOr<std::unique_ptr<Shard>> Shard::Load(const ShardParts& parts, ExpertRange range,
                                                   std::atomic<int64_t>* loaded_bytes) {
  std::unique_ptr<Shard> shard(new Shard(parts));
  const ModelConfig& config = shard->parts_.config;
  WeightLoader loader(parts.checkpoint, &config, parts.kernels, parts.device,
                      parts.numerics.product_format(), loaded_bytes);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    if (!config.is_moe_layer(layer)) continue;
    LayerExperts held = {.layer = layer, .experts = {}};
    for (int expert = range.begin; expert < range.end; ++expert) {
      const std::string prefix = absl::StrCat("model.layers.", layer, ".mlp.experts.", expert);
      ASSIGN_OR_RETURN(
          FeedForwardWeights weights,
          loader.FeedForward(prefix, config.hidden_size, config.moe_intermediate_size));
      shard->slots_.emplace(std::make_pair(layer, expert), std::move(weights));
      held.experts.push_back(expert);
    }
    shard->held_.push_back(std::move(held));
  }
  shard->parts_.checkpoint = nullptr;
  return shard;
}

absl::Status Shard::Run(const InboundFrame& frame, std::vector<EntryState>& states,
                        std::vector<std::byte>& results) {
  const size_t num_entries = frame.entries.size();
  states.assign(num_entries, EntryState::kNotHeld);
  results.resize(num_entries * result_bytes_);

  // Entries of one expert together, in their order within the frame.
  order_.clear();
  for (size_t i = 0; i < num_entries; ++i)
    order_.emplace_back(frame.entries[i].expert, static_cast<int>(i));
  std::sort(order_.begin(), order_.end());

  std::vector<int> indices;
  for (size_t begin = 0, end = 0; begin < num_entries; begin = end) {
    const int expert = order_[begin].first;
    indices.clear();
    for (end = begin; end < num_entries && order_[end].first == expert; ++end) {
      indices.push_back(order_[end].second);
    }
    const auto slot = slots_.find({frame.layer, expert});
    if (slot == slots_.end()) continue;
    RETURN_IF_ERROR(RunExpert(slot->second, frame, indices, results));
    for (const int index : indices) states[index] = EntryState::kDone;
  }
  return absl::OkStatus();
}

absl::Status Shard::RunExpert(const FeedForwardWeights& weights, const InboundFrame& frame,
                              absl::Span<const int> indices, std::vector<std::byte>& results) {
  const int num_rows = static_cast<int>(indices.size());
  RETURN_IF_ERROR(ReserveRows(num_rows));
  Kernels& kernels = *parts_.kernels;
  const int hidden = parts_.config.hidden_size;
  const Matrix rows(rows_.as<float>(), num_rows, hidden);
  const Matrix out(out_.as<float>(), num_rows, hidden);
  std::byte* encoded = encoded_.as<std::byte>();

  for (int i = 0; i < num_rows; ++i) {
    const int row = frame.entries[indices[i]].row;
    std::memcpy(encoded + i * row_bytes_, frame.rows + row * row_bytes_, row_bytes_);
  }
  kernels.DecodeRows(encoded, parts_.numerics.row_format, rows);
  kernels.FeedForward(rows, *weights.gate, *weights.up, *weights.down, out);
  kernels.EncodeRows(out, parts_.numerics.result_format(), encoded);
  RETURN_IF_ERROR(parts_.stream->Synchronize());
  for (int i = 0; i < num_rows; ++i) {
    std::memcpy(results.data() + indices[i] * result_bytes_, encoded + i * result_bytes_,
                result_bytes_);
  }
  return absl::OkStatus();
}

absl::Status Shard::ReserveRows(int num_rows) {
  if (num_rows <= max_rows_) return absl::OkStatus();
  const size_t row_values = static_cast<size_t>(parts_.config.hidden_size) * sizeof(float);
  ASSIGN_OR_RETURN(encoded_, parts_.device->Allocate(num_rows * std::max(row_bytes_, result_bytes_),
                                                     MemoryKind::kPinnedHost));
  ASSIGN_OR_RETURN(rows_, parts_.device->Allocate(num_rows * row_values, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(out_, parts_.device->Allocate(num_rows * row_values, MemoryKind::kDevice));
  max_rows_ = num_rows;
  return absl::OkStatus();
}

}  // namespace orrery
