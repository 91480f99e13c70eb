#include "services/expert/shard.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/fault_point.h"
#include "base/log.h"
#include "device/counting_device.h"
#include "model/moe_layers.h"
#include "model/weight_bytes.h"
#include "model/weight_list.h"

namespace orrery {

Shard::Shard(const ShardParts& parts)
    : parts_(parts),
      row_bytes_(EncodedRowBytes(parts.numerics.row_format, parts.config.hidden_size)),
      result_bytes_(EncodedRowBytes(parts.numerics.result_format(), parts.config.hidden_size)),
      moe_layers_(MoeLayers(parts.config, parts.with_mtp)),
      num_rows_(moe_layers_.size() * parts.config.num_experts) {}

int64_t Shard::EstimateExpertBytes(const ModelConfig& config) {
  const int64_t weights = int64_t{3} * config.hidden_size * config.moe_intermediate_size;
  return weights * (config.weight_block_outputs > 0 ? 1 : 2);
}

int64_t Shard::EstimateBytes(const ModelConfig& config, ExpertRange range, bool with_mtp) {
  const auto num_layers = static_cast<int64_t>(MoeLayers(config, with_mtp).size());
  return num_layers * range.size() * EstimateExpertBytes(config);
}

absl::StatusOr<std::unique_ptr<Shard>> Shard::Load(const ShardParts& parts, ExpertRange range,
                                                   std::atomic<int64_t>* loaded_bytes) {
  std::unique_ptr<Shard> shard(new Shard(parts));
  const ModelConfig& config = shard->parts_.config;
  const std::unique_ptr<WeightLoader> loader =
      parts.files->MakeLoader(&config, parts.kernels, parts.device, parts.numerics, loaded_bytes);
  std::vector<std::string> records;
  for (const int layer : MoeLayers(config, parts.with_mtp)) {
    for (int expert = range.begin; expert < range.end; ++expert) {
      records.push_back(ExpertRecord(layer, expert));
    }
  }
  loader->Expect(records);
  RETURN_IF_ERROR(shard->Allocate());  // while records come
  RETURN_IF_ERROR(parts.kernels->ReserveScratch(shard->LargestCall(range)));
  for (const int layer : MoeLayers(config, parts.with_mtp)) {
    LayerExperts held = {.layer = layer, .experts = {}};
    for (int expert = range.begin; expert < range.end; ++expert) {
      ASSIGN_OR_RETURN(FeedForwardWeights weights,
                       loader->FeedForward(ExpertRecord(layer, expert), config.hidden_size,
                                           config.moe_intermediate_size));
      shard->slots_.emplace(std::make_pair(layer, expert), std::move(weights));
      held.experts.push_back(expert);
      PassFaultPoint(FaultPoint::kWhileLoading);
    }
    shard->held_.push_back(std::move(held));
  }
  shard->parts_.files = nullptr;
  return shard;
}

ScratchLimits Shard::LargestCall(ExpertRange range) const {
  const auto num_rows = static_cast<int64_t>(max_entries_);
  const int num_experts = std::min(range.size(), static_cast<int>(max_entries_));
  return {.products = {2 * num_rows, 2 * num_experts, parts_.config.hidden_size},
          .down_products = {num_rows, num_experts, parts_.config.moe_intermediate_size}};
}

namespace {

// Any: of the shard's own, else of a model as it is usually published, for files of others may be missing.
absl::StatusOr<size_t> CountExpert(const ShardParts& parts,
                                   const std::vector<WeightRecord>& own_records) {
  const ModelConfig& config = parts.config;
  const ItemBytes by_files = parts.files->item_bytes(config, parts.numerics, *parts.kernels);
  if (!own_records.empty()) return WeightBytes({own_records.front()}, by_files);
  WeightLister lister;
  const int layer = MoeLayers(config, parts.with_mtp).front();
  RETURN_IF_ERROR(
      lister.FeedForward(ExpertRecord(layer, 0), config.hidden_size, config.moe_intermediate_size)
          .status());
  return WeightBytes(lister.TakeRecords(),
                     parts.files->store() != nullptr
                         ? by_files
                         : BytesOf(config, StoredBy(config), parts.numerics, *parts.kernels));
}

}  // namespace

absl::StatusOr<Shard::Memory> Shard::CountMemory(const ShardParts& parts, ExpertRange range) {
  const ModelConfig& config = parts.config;
  WeightLister lister;
  for (const int layer : MoeLayers(config, parts.with_mtp)) {
    for (int expert = range.begin; expert < range.end; ++expert) {
      RETURN_IF_ERROR(lister
                          .FeedForward(ExpertRecord(layer, expert), config.hidden_size,
                                       config.moe_intermediate_size)
                          .status());
    }
  }
  Memory memory;
  const std::vector<WeightRecord> records = lister.TakeRecords();
  ASSIGN_OR_RETURN(
      memory.weights,
      WeightBytes(records, parts.files->item_bytes(config, parts.numerics, *parts.kernels)));
  memory.loading = LoadingBytes(records);
  ASSIGN_OR_RETURN(memory.expert, CountExpert(parts, records));
  CountingDevice device;
  ShardParts counted = parts;
  counted.device = &device;
  Shard shard(counted);
  RETURN_IF_ERROR(shard.Allocate());
  memory.scratch = device.num_bytes() + parts.kernels->ScratchBytes(shard.LargestCall(range));
  memory.host = device.num_pinned_bytes() + shard.AnswerBytes();
  return memory;
}

MemoryNeed Shard::Memory::DeviceNeed() const {
  MemoryNeed need;
  need.Add({.name = "weights",
            .bytes = weights,
            .smaller_by = "more shards or ffn_weights (int8, int4)"});
  need.Add({.name = "scratch", .bytes = scratch});
  return need;
}

absl::Status Shard::Allocate() {
  max_entries_ = kMaxGroupBytes / result_bytes_;
  visits_.reserve(max_entries_);
  answers_.reserve(max_entries_);  // a frame has at least one entry
  feed_forwards_.reserve(std::min<size_t>(max_entries_, parts_.config.num_experts));
  states_.resize(max_entries_);
  results_.resize(max_entries_ * result_bytes_);
  const size_t row_values = static_cast<size_t>(parts_.config.hidden_size) * sizeof(float);
  ASSIGN_OR_RETURN(encoded_,
                   parts_.device->Allocate(max_entries_ * std::max(row_bytes_, result_bytes_),
                                           MemoryKind::kPinnedHost));
  ASSIGN_OR_RETURN(rows_, parts_.device->Allocate(max_entries_ * row_values, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(out_, parts_.device->Allocate(max_entries_ * row_values, MemoryKind::kDevice));
  return absl::OkStatus();
}

size_t Shard::AnswerBytes() const {
  return visits_.capacity() * sizeof(Visit) + answers_.capacity() * sizeof(FrameAnswer) +
         feed_forwards_.capacity() * sizeof(FeedForwardArgs) +
         states_.capacity() * sizeof(EntryState) + results_.capacity();
}

absl::Span<const FrameAnswer> Shard::Run(absl::Span<const InboundFrame> group) {
  ListVisits(group);
  ListFeedForwards(group.empty() ? 0 : group[0].layer);
  const absl::Status status = RunFeedForwards();
  if (!status.ok()) {  // the processor failed: the ranks ask another holder
    LogError("layer ", group[0].layer, ": ", status.ToString());
  }
  for (const Visit& visit : visits_) {
    states_[visit.entry] = status.ok() ? EntryState::kDone : EntryState::kRefused;
    if (harm_) harm_({results_.data() + visit.entry * result_bytes_, result_bytes_});
  }
  return answers_;
}

void Shard::ListVisits(absl::Span<const InboundFrame> group) {
  visits_.clear();
  answers_.clear();
  size_t num_entries = 0;
  for (const InboundFrame& frame : group) {
    const size_t first = num_entries;
    num_entries += frame.entries.size();
    ORRERY_CHECK(num_entries <= max_entries_ && frame.layer == group[0].layer)
        << num_entries << " entries of " << max_entries_ << ", layers " << frame.layer << " and "
        << group[0].layer;
    for (size_t i = 0; i < frame.entries.size(); ++i) {
      const auto [row, expert] = frame.entries[i];
      const bool has_row = row >= 0 && row < frame.num_rows;
      states_[first + i] = has_row ? EntryState::kNotHeld : EntryState::kRefused;
      if (!has_row) continue;
      visits_.push_back({.expert = expert,
                         .entry = static_cast<int>(first + i),
                         .row = frame.rows + row * row_bytes_});
    }
    answers_.push_back({.states = {states_.data() + first, frame.entries.size()},
                        .results = {results_.data() + first * result_bytes_,
                                    frame.entries.size() * result_bytes_}});
  }
  std::sort(visits_.begin(), visits_.end(), [](const Visit& a, const Visit& b) {
    return std::pair(a.expert, a.entry) < std::pair(b.expert, b.entry);
  });
}

void Shard::ListFeedForwards(int layer) {
  feed_forwards_.clear();
  const int hidden = parts_.config.hidden_size;
  size_t num_held = 0;  // visits to experts that are held move to the front
  for (size_t begin = 0, end = 0; begin < visits_.size(); begin = end) {
    const int expert = visits_[begin].expert;
    while (end < visits_.size() && visits_[end].expert == expert) ++end;
    const auto slot = slots_.find({layer, expert});
    if (slot == slots_.end()) {
      AskForMissing({.layer = layer, .expert = expert},
                    absl::MakeConstSpan(visits_).subspan(begin, end - begin));
      continue;
    }
    const FeedForwardWeights& weights = slot->second;
    const int num_rows = static_cast<int>(end - begin);
    num_rows_[CounterOf({.layer = layer, .expert = expert})].fetch_add(num_rows,
                                                                       std::memory_order_relaxed);
    feed_forwards_.push_back(
        {.x = ConstMatrix(rows_.as<float>() + num_held * hidden, num_rows, hidden),
         .gate = weights.gate.get(),
         .up = weights.up.get(),
         .down = weights.down.get(),
         .out = Matrix(out_.as<float>() + num_held * hidden, num_rows, hidden)});
    std::copy(visits_.begin() + begin, visits_.begin() + end, visits_.begin() + num_held);
    num_held += end - begin;
  }
  visits_.resize(num_held);
}

size_t Shard::CounterOf(ExpertKey key) const {
  const auto layer = std::lower_bound(moe_layers_.begin(), moe_layers_.end(), key.layer);
  return (layer - moe_layers_.begin()) * parts_.config.num_experts + key.expert;
}

int64_t Shard::num_rows(ExpertKey key) const {
  return num_rows_[CounterOf(key)].load(std::memory_order_relaxed);
}

void Shard::AskForMissing(ExpertKey key, absl::Span<const Visit> visits) {
  if (!ask_heir_) return;
  const MissingAnswer answer = ask_heir_(key, static_cast<int>(visits.size()));
  for (const Visit& visit : visits) states_[visit.entry] = answer.state;
  for (FrameAnswer& frame : answers_) frame.eta_ms = std::max(frame.eta_ms, answer.eta_ms);
}

void Shard::Add(ExpertKey key, FeedForwardWeights weights) {
  const auto layer = std::find_if(held_.begin(), held_.end(), [&](const LayerExperts& held) {
    return held.layer == key.layer;
  });
  ORRERY_CHECK(layer != held_.end()) << "layer " << key.layer << " has no experts";
  slots_.insert_or_assign({key.layer, key.expert}, std::move(weights));
  const auto place = std::lower_bound(layer->experts.begin(), layer->experts.end(), key.expert);
  if (place == layer->experts.end() || *place != key.expert) {
    layer->experts.insert(place, key.expert);
  }
}

void Shard::Remove(ExpertKey key) {
  slots_.erase({key.layer, key.expert});
  for (LayerExperts& held : held_) {
    if (held.layer == key.layer) std::erase(held.experts, key.expert);
  }
}

absl::Status Shard::RunFeedForwards() {
  const int num_rows = static_cast<int>(visits_.size());
  Kernels& kernels = *parts_.kernels;
  const int hidden = parts_.config.hidden_size;
  std::byte* encoded = encoded_.as<std::byte>();

  for (int i = 0; i < num_rows; ++i) {
    std::memcpy(encoded + i * row_bytes_, visits_[i].row, row_bytes_);
  }
  kernels.DecodeRows(encoded, parts_.numerics.row_format,
                     Matrix(rows_.as<float>(), num_rows, hidden));
  kernels.FeedForward(feed_forwards_);
  kernels.EncodeRows(ConstMatrix(out_.as<float>(), num_rows, hidden),
                     parts_.numerics.result_format(), encoded);
  RETURN_IF_ERROR(parts_.stream->Synchronize());
  for (int i = 0; i < num_rows; ++i) {
    std::memcpy(results_.data() + visits_[i].entry * result_bytes_, encoded + i * result_bytes_,
                result_bytes_);
  }
  return absl::OkStatus();
}

}  // namespace orrery
