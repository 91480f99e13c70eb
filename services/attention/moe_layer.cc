#include "services/attention/moe_layer.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/fault_point.h"
#include "exchange/plan.h"

namespace orrery {
namespace {

// How long a layer that waits sleeps before it looks around: whether its batch is still wanted.
constexpr absl::Duration kLookInterval = absl::Milliseconds(20);

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

}  // namespace

absl::StatusOr<MoeLayer> MoeLayer::Create(const ModelConfig& config, const Numerics& numerics,
                                          const Parts& parts, int max_rows) {
  MoeLayer layer;
  layer.config_ = &config;
  layer.numerics_ = numerics;
  layer.exchange_ = parts.exchange;
  layer.directory_ = parts.directory;
  layer.oversight_ = parts.oversight;
  layer.metrics_ = parts.metrics;
  if (config.num_experts == 0) return layer;

  layer.gate_ = MakeGateParams(config);
  layer.row_bytes_ = EncodedRowBytes(numerics.row_format, config.hidden_size);
  layer.result_bytes_ = EncodedRowBytes(numerics.result_format(), config.hidden_size);
  if (parts.exchange != nullptr) {
    layer.recovery_ =
        std::make_unique<Recovery>(config.num_experts, parts.directory, &parts.oversight->health(),
                                   &parts.oversight->memory());
  }
  Device* const device = parts.device;
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

absl::Status MoeLayer::SendRows(int layer, const Batch& batch, Stream& stream) {
  RETURN_IF_ERROR(stream.Synchronize());
  entries_ = RoutedEntries({.num_rows = batch.num_rows(), .topk = config_->num_experts_per_token},
                           expert_ids(batch.num_rows()));
  const absl::Status status = Ask(layer, batch);
  sent_at_ = absl::Now();
  return status;
}

absl::Status MoeLayer::AwaitResults(int layer, const Batch& batch) {
  // What was computed meanwhile, and what another micro-batch waited for, is not the shards' time.
  recovery_->OnPaused(absl::Now() - sent_at_);
  absl::Status status = Collect(layer, batch);
  if (status.ok()) status = CollectAudits(layer, batch);
  if (status.ok()) status = oversight_->HoldCourt(batch);
  EndFlights(layer, batch, status);
  PassFaultPoint(FaultPoint::kBeforeCombine);
  return status;
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

absl::StatusOr<Ticket> MoeLayer::Dispatch(int layer, const Batch& batch, const PeerEntries& ask) {
  return exchange_->Dispatch(layer, batch.lane, {ask},
                             {rows_.as<std::byte>(), batch.num_rows() * row_bytes_});
}

absl::Status MoeLayer::Ask(int layer, const Batch& batch) {
  RETURN_IF_ERROR(oversight_->Review(batch));
  recovery_->Begin({.layer = layer, .timeout = batch.expert_timeout, .entries = entries_},
                   absl::Now());
  ChooseAudits();
  RETURN_IF_ERROR(Send(layer, batch));
  AskAuditors(layer, batch);
  PassFaultPoint(FaultPoint::kAfterDispatch);
  return absl::OkStatus();
}

absl::Status MoeLayer::Send(int layer, const Batch& batch) {
  const absl::Time now = absl::Now();
  for (PeerEntries& ask : recovery_->Next(now, Connected())) {
    const absl::StatusOr<Ticket> ticket = Dispatch(layer, batch, ask);
    // With all tickets open, some are answered soon; what was not asked stays wanted.
    if (absl::IsResourceExhausted(ticket.status()) && !flights_.empty()) continue;
    RETURN_IF_ERROR(ticket.status());
    recovery_->OnSent(ticket->slot, ask, now);
    flights_.push_back({.ticket = *ticket, .asked = std::move(ask)});
  }
  return absl::OkStatus();
}

absl::Status MoeLayer::Collect(int layer, const Batch& batch) {
  while (true) {
    Land(layer);
    if (recovery_->done()) return absl::OkStatus();
    RETURN_IF_ERROR(Send(layer, batch));
    RETURN_IF_ERROR(Wait(layer, batch));
  }
}

absl::Status MoeLayer::Wait(int layer, const Batch& batch) {
  if (metrics_ != nullptr) metrics_->heartbeat.Beat();
  const uint64_t version = directory_->version();
  const absl::Time now = absl::Now();
  if (now >= recovery_->deadline()) {
    return absl::UnavailableError(absl::StrCat(recovery_->DescribeLeft(), " that answered within ",
                                               absl::FormatDuration(now - recovery_->begin())));
  }
  if (batch.abandoned && batch.abandoned()) {
    return absl::CancelledError(
        absl::StrCat("given up while layer ", layer, " waited for experts"));
  }
  const absl::Time look_at = batch.abandoned ? now + kLookInterval : absl::InfiniteFuture();
  const absl::Time until = std::min({recovery_->wake_at(), recovery_->deadline(), look_at});
  if (flights_.empty()) {
    directory_->WaitForChange(version, until);
    return absl::OkStatus();
  }
  std::vector<Ticket> tickets;
  for (const Flight& flight : flights_) tickets.push_back(flight.ticket);
  exchange_->Await(tickets, recovery_->is_smooth() ? tickets.size() : 1, until);
  return absl::OkStatus();
}

void MoeLayer::Land(int layer) {
  const absl::Time now = absl::Now();
  std::erase_if(flights_, [&](const Flight& flight) {
    if (!exchange_->Await(flight.ticket, absl::InfinitePast())) return false;
    const std::optional<absl::Duration> after = exchange_->AnsweredAfter(flight.ticket);
    if (metrics_ != nullptr && after.has_value()) {
      metrics_->exchange_seconds[flight.asked.peer].Observe(absl::ToDoubleSeconds(*after));
    }
    const bool is_second =
        std::any_of(flight.asked.entries.begin(), flight.asked.entries.end(),
                    [&](const DispatchEntry& entry) { return recovery_->is_done(entry); });
    const CombineReport report =
        is_second ? LandSecond(layer, flight)
                  : exchange_->Combine(flight.ticket, absl::InfinitePast(), results());
    recovery_->OnAnswer(flight.ticket.slot, report, after, now);
    return true;
  });
}

CombineReport MoeLayer::LandSecond(int layer, const Flight& flight) {
  const absl::Span<std::byte> seconds = oversight_->second_results();
  CombineReport report = exchange_->Combine(flight.ticket, absl::InfinitePast(), seconds);
  size_t next = 0;  // of the report, which is in the order of the entries
  for (const DispatchEntry& entry : flight.asked.entries) {
    if (next < report.size() && report[next].entry.result == entry.result) {
      ++next;
      continue;
    }
    if (recovery_->is_done(entry)) {
      Compare(layer, entry, flight.asked.peer);
    } else {
      std::memcpy(results_.as<std::byte>() + entry.result * result_bytes_,
                  seconds.data() + entry.result * result_bytes_, result_bytes_);
    }
  }
  return report;
}

void MoeLayer::EndFlights(int layer, const Batch& batch, const absl::Status& status) {
  if (!status.ok()) return GiveUp();
  for (Flight& flight : flights_) {
    oversight_->seconds().Keep(flight.ticket, QuestionOf(layer, std::move(flight.asked)),
                               absl::Now());
  }
  flights_.clear();
  ProbeSpared(layer, batch);
  AskSuccessors(layer, batch);
}

void MoeLayer::GiveUp() {
  for (const Flight& flight : flights_) exchange_->Abandon(flight.ticket);
  flights_.clear();
  for (const OpenAudit& audit : audits_) exchange_->Abandon(audit.flight.ticket);
  audits_.clear();
}

void MoeLayer::ProbeSpared(int layer, const Batch& batch) {
  ShardHealth& health = oversight_->health();
  const absl::Time now = absl::Now();
  for (int peer = 0; peer < exchange_->num_peers(); ++peer) {
    if (!health.IsProbeDue(peer, now) || oversight_->seconds().is_full() || !Connected()[peer])
      continue;
    const auto held =
        std::find_if(entries_.begin(), entries_.end(), [&](const DispatchEntry& entry) {
          return directory_->Holds(peer, {.layer = layer, .expert = entry.expert});
        });
    if (held == entries_.end()) continue;
    health.OnProbeSent(peer, now);
    AskUnwaited(layer, batch, peer, *held);
  }
}

void MoeLayer::AskSuccessors(int layer, const Batch& batch) {
  if (!directory_->is_any_draining()) return;
  const absl::Time now = absl::Now();
  const std::vector<bool> connected = Connected();
  for (const DispatchEntry& entry : entries_) {
    if (oversight_->seconds().is_full()) return;
    const int heir = recovery_->PickSuccessor(entry.expert, now, connected);
    if (heir != kNoPeer) AskUnwaited(layer, batch, heir, entry);
  }
}

void MoeLayer::AskUnwaited(int layer, const Batch& batch, int peer, const DispatchEntry& entry) {
  PeerEntries ask = {.peer = peer, .entries = {entry}};
  const absl::StatusOr<Ticket> ticket = Dispatch(layer, batch, ask);
  if (!ticket.ok()) return;  // it was worth a try
  oversight_->seconds().Keep(*ticket, QuestionOf(layer, std::move(ask)), absl::Now());
}

SecondAnswers::Question MoeLayer::QuestionOf(int layer, PeerEntries asked) const {
  SecondAnswers::Question question = {
      .asked = std::move(asked), .layer = layer, .rows = {}, .first = {}, .first_peers = {}};
  const std::byte* const rows = rows_.as<std::byte>();
  const size_t num_rows = entries_.size() / config_->num_experts_per_token;
  question.rows.assign(rows, rows + num_rows * row_bytes_);
  for (const DispatchEntry& entry : question.asked.entries) {
    const std::byte* const result = results_.as<std::byte>() + entry.result * result_bytes_;
    question.first.insert(question.first.end(), result, result + result_bytes_);
    question.first_peers.push_back(recovery_->peer_of(entry));
  }
  return question;
}

std::vector<bool> MoeLayer::Connected() const {
  std::vector<bool> usable(exchange_->num_peers());
  for (int peer = 0; peer < exchange_->num_peers(); ++peer) {
    directory_->OnReconnects(peer, exchange_->num_reconnects(peer));
    usable[peer] = exchange_->connected(peer);
  }
  const std::vector<bool> barred = directory_->Barred();
  for (size_t peer = 0; peer < usable.size(); ++peer) usable[peer] = usable[peer] && !barred[peer];
  return usable;
}

}  // namespace orrery
