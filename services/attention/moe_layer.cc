#include "services/attention/moe_layer.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace orrery {
namespace {

// How long a layer that waits sleeps before it looks around: whether its batch is still wanted and,
// when it waits for a holder, at the connections.
constexpr absl::Duration kLookInterval = absl::Milliseconds(20);
// Of the time that a layer may wait, a shard that does not answer may take 1 / this where another
// could answer too.
constexpr int kSilenceShare = 4;
// So many times what it took until it is trusted again: it slows the rank down by a ninth at most.
constexpr int kSilenceMemory = 8;

GateParams MakeGateParams(const ModelConfig& config) {
  using TopkMethod = ModelConfig::TopkMethod;
  GateParams gate;
  gate.score = config.scoring_func == ModelConfig::ScoringFunc::kSigmoid
                   ? GateParams::Score::kSigmoid
                   : GateParams::Score::kSoftmax;
  gate.group_score = config.topk_method == TopkMethod::kNoauxTc ? GateParams::GroupScore::kTop2Sum
                                                                : GateParams::GroupScore::kMax;
  const bool limited = config.topk_method != TopkMethod::kGreedy;
  gate.num_experts = config.num_experts;
  gate.num_groups = limited ? config.num_groups : 1;
  gate.num_kept_groups = limited ? config.num_kept_groups : 1;
  gate.topk = config.num_experts_per_token;
  gate.normalize = config.normalize_weights;
  gate.weight_scale = static_cast<float>(config.weight_scale);
  return gate;
}

std::string DescribeEntries(int layer, absl::Span<const DispatchEntry> entries) {
  std::vector<int> experts;
  for (const DispatchEntry& entry : entries) experts.push_back(entry.expert);
  std::sort(experts.begin(), experts.end());
  experts.erase(std::unique(experts.begin(), experts.end()), experts.end());
  const LayerExperts missing = {.layer = layer, .experts = std::move(experts)};
  return DescribeMissing({&missing, 1});
}

}  // namespace

absl::StatusOr<MoeLayer> MoeLayer::Create(const ModelConfig& config, const Numerics& numerics,
                                          int max_rows, Device* device, RankExchange* exchange,
                                          ExpertDirectory* directory) {
  MoeLayer layer;
  layer.config_ = &config;
  layer.numerics_ = numerics;
  layer.exchange_ = exchange;
  layer.directory_ = directory;
  if (config.num_experts == 0) return layer;

  layer.gate_ = MakeGateParams(config);
  layer.row_bytes_ = EncodedRowBytes(numerics.row_format, config.hidden_size);
  layer.result_bytes_ = EncodedRowBytes(numerics.result_format(), config.hidden_size);
  layer.holders_.resize(config.num_experts);
  const int num_peers = exchange == nullptr ? 0 : exchange->num_peers();
  layer.avoided_.resize(num_peers);
  layer.silent_until_.resize(num_peers, absl::InfinitePast());
  const size_t rows = max_rows;
  const size_t chosen = rows * config.num_experts_per_token;
  const size_t row_values = static_cast<size_t>(config.hidden_size) * sizeof(float);
  const auto on_device = [device](size_t bytes) {
    return device->Allocate(bytes, MemoryKind::kDevice);
  };
  const auto on_host = [device](size_t bytes) {
    return device->Allocate(bytes, MemoryKind::kPinnedHost);
  };
  ASSIGN_OR_RETURN(layer.logits_, on_device(rows * config.num_experts * sizeof(float)));
  ASSIGN_OR_RETURN(layer.expert_ids_, on_host(chosen * sizeof(int32_t)));
  ASSIGN_OR_RETURN(layer.weights_, on_device(chosen * sizeof(float)));
  ASSIGN_OR_RETURN(layer.rows_, on_host(rows * layer.row_bytes_));
  ASSIGN_OR_RETURN(layer.results_, on_host(chosen * layer.result_bytes_));
  ASSIGN_OR_RETURN(layer.expert_rows_, on_device(chosen * row_values));
  ASSIGN_OR_RETURN(layer.sum_, on_device(rows * row_values));
  return layer;
}

void MoeLayer::Choose(const MoeWeights& weights, ConstMatrix normed, const int32_t* forced_ids,
                      Kernels& kernels) {
  const Matrix logits(logits_.as<float>(), normed.num_rows, config_->num_experts);
  kernels.Matmul(normed, *weights.gate, nullptr, logits);
  gate_.bias = weights.bias.as<float>();
  kernels.Gate(logits, gate_, forced_ids, expert_ids_.as<int32_t>(), weights_.as<float>());
  kernels.EncodeRows(normed, numerics_.row_format, rows_.as<std::byte>());
}

absl::Status MoeLayer::Exchange(int layer, const Batch& batch, Stream& stream,
                                absl::FunctionRef<absl::Status()> meanwhile) {
  RETURN_IF_ERROR(stream.Synchronize());
  std::fill(avoided_.begin(), avoided_.end(), false);
  PickHolders(layer);
  Plan plan = PlanRows({.num_rows = batch.num_rows(), .topk = config_->num_experts_per_token},
                       expert_ids(batch.num_rows()), holders_);
  ASSIGN_OR_RETURN(const Ticket ticket, Send(layer, batch, plan.dispatch));
  RETURN_IF_ERROR(meanwhile());
  return Collect(layer, batch, std::move(plan), ticket);
}

void MoeLayer::Combine(const MoeWeights& weights, Kernels& kernels, Matrix out) {
  const int topk = config_->num_experts_per_token;
  const Matrix expert_rows(expert_rows_.as<float>(), out.num_rows * topk, out.num_cols);
  kernels.DecodeRows(results_.as<std::byte>(), numerics_.result_format(), expert_rows);
  if (weights.shared.has_value()) {
    const Matrix sum(sum_.as<float>(), out.num_rows, out.num_cols);
    kernels.WeightedSum(expert_rows, weights_.as<float>(), topk, sum);
    kernels.Add(sum, out);
  } else {
    kernels.WeightedSum(expert_rows, weights_.as<float>(), topk, out);
  }
}

absl::StatusOr<Ticket> MoeLayer::Send(int layer, const Batch& batch, const DispatchPlan& plan) {
  return exchange_->Dispatch(layer, batch.lane, plan,
                             {rows_.as<std::byte>(), batch.num_rows() * row_bytes_});
}

absl::Status MoeLayer::Collect(int layer, const Batch& batch, Plan plan, Ticket ticket) {
  const size_t num_results = static_cast<size_t>(batch.num_rows()) * config_->num_experts_per_token;
  const absl::Span<std::byte> results(results_.as<std::byte>(), num_results * result_bytes_);
  const absl::Time begin = absl::Now();
  const absl::Time deadline = begin + batch.expert_timeout;
  // Only the first wait is cut short: a shard that is merely slow gets the rest of the time.
  absl::Time patience = HaveOtherHolders(layer, plan.dispatch)
                            ? begin + batch.expert_timeout / kSilenceShare
                            : deadline;
  while (true) {
    const uint64_t version = directory_->version();
    RETURN_IF_ERROR(AwaitAnswers(layer, batch, ticket, patience));
    const CombineReport report = exchange_->Combine(ticket, patience, results);
    std::vector<DispatchEntry> again = Learn(layer, plan.dispatch, report, batch.expert_timeout);
    if (again.empty() && plan.unheld.empty()) return absl::OkStatus();

    again.insert(again.end(), plan.unheld.begin(), plan.unheld.end());
    plan = PlanAgain(layer, again);
    if (plan.dispatch.empty()) {
      RETURN_IF_ERROR(WaitForHolders(layer, batch, again, version, begin));
      std::fill(avoided_.begin(), avoided_.end(), false);
      plan = PlanAgain(layer, again);
    }
    ASSIGN_OR_RETURN(ticket, Send(layer, batch, plan.dispatch));
    patience = deadline;
  }
}

absl::Status MoeLayer::AwaitAnswers(int layer, const Batch& batch, Ticket ticket,
                                    absl::Time deadline) {
  if (!batch.abandoned) return absl::OkStatus();  // nobody to ask: Combine waits
  while (!exchange_->Await(ticket, std::min(deadline, absl::Now() + kLookInterval))) {
    if (absl::Now() >= deadline) break;
    if (!batch.abandoned()) continue;
    exchange_->Abandon(ticket);
    return absl::CancelledError(
        absl::StrCat("given up while layer ", layer, " waited for experts"));
  }
  return absl::OkStatus();
}

absl::Status MoeLayer::WaitForHolders(int layer, const Batch& batch,
                                      absl::Span<const DispatchEntry> entries,
                                      uint64_t seen_version, absl::Time begin) {
  const absl::Time now = absl::Now();
  const absl::Time deadline = begin + batch.expert_timeout;
  if (now >= deadline) {
    return absl::UnavailableError(absl::StrCat(DescribeEntries(layer, entries),
                                               " that answered within ",
                                               absl::FormatDuration(now - begin)));
  }
  if (batch.abandoned && batch.abandoned()) {
    return absl::CancelledError(absl::StrCat("given up; ", DescribeEntries(layer, entries)));
  }
  directory_->WaitForChange(seen_version, std::min(deadline, now + kLookInterval));
  return absl::OkStatus();
}

bool MoeLayer::HaveOtherHolders(int layer, const DispatchPlan& plan) const {
  std::vector<bool> usable = Usable(/*with_silent=*/false);
  std::vector<bool> is_known(config_->num_experts);  // many rows ask for the same one
  for (const PeerEntries& asked : plan) {
    usable[asked.peer] = false;
    for (const DispatchEntry& entry : asked.entries) {
      if (is_known[entry.expert]) continue;
      is_known[entry.expert] = true;
      if (directory_->Pick({.layer = layer, .expert = entry.expert}, usable) == kNoPeer) {
        return false;
      }
    }
    usable[asked.peer] = true;
  }
  return true;
}

std::vector<DispatchEntry> MoeLayer::Learn(int layer, const DispatchPlan& asked,
                                           const CombineReport& report,
                                           absl::Duration expert_timeout) {
  for (const PeerEntries& peer : asked) silent_until_[peer.peer] = absl::InfinitePast();
  std::vector<DispatchEntry> again;
  for (const EntryOutcome& outcome : report) {
    again.push_back(outcome.entry);
    if (outcome.state == EntryState::kNotHeld) {
      directory_->Remove(outcome.peer, {.layer = layer, .expert = outcome.entry.expert});
    } else {
      avoided_[outcome.peer] = true;
    }
    if (outcome.state == EntryState::kPending) {
      silent_until_[outcome.peer] = absl::Now() + kSilenceMemory * expert_timeout / kSilenceShare;
    }
  }
  return again;
}

Plan MoeLayer::PlanAgain(int layer, absl::Span<const DispatchEntry> entries) {
  PickHolders(layer);
  return PlanEntries(entries, holders_);
}

void MoeLayer::PickHolders(int layer) {
  const std::vector<bool> usable = Usable(/*with_silent=*/true);
  const std::vector<bool> likely = Usable(/*with_silent=*/false);
  directory_->PickHolders(layer, likely, holders_);
  if (likely == usable) return;
  for (int expert = 0; expert < config_->num_experts; ++expert) {
    if (holders_[expert] != kNoPeer) continue;
    holders_[expert] = directory_->Pick({.layer = layer, .expert = expert}, usable);
  }
}

std::vector<bool> MoeLayer::Usable(bool with_silent) const {
  const absl::Time now = absl::Now();
  std::vector<bool> usable(avoided_.size());
  for (size_t peer = 0; peer < usable.size(); ++peer) {
    usable[peer] = !avoided_[peer] && (with_silent || silent_until_[peer] <= now) &&
                   exchange_->connected(static_cast<int>(peer));
  }
  return usable;
}

}  // namespace orrery
