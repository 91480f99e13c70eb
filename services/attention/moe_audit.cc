// Visits that are asked for twice, and what follows from answers that differ. See moe_layer.h.
#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "services/attention/moe_layer.h"

namespace orrery {
namespace {

// How long a layer that waits sleeps before it looks around: whether its batch is still wanted.
constexpr absl::Duration kLookInterval = absl::Milliseconds(20);

// How often a second answer is asked for in one layer.
constexpr int kMaxAsks = 3;

}  // namespace

void MoeLayer::ChooseAudits() {
  oversight_->audit_draw().Next(static_cast<int64_t>(entries_.size()), drawn_);
  to_audit_.clear();
  for (const int index : drawn_) to_audit_.push_back(entries_[index]);
}

void MoeLayer::AskAuditors(int layer, const Batch& batch) {
  if (to_audit_.empty()) return;
  const std::vector<bool> connected = Connected();
  std::map<int, PeerEntries> asks;
  for (const DispatchEntry& entry : to_audit_) {
    const int peer = PickAuditor(layer, entry, connected);
    if (peer == kNoPeer) continue;
    asks[peer].peer = peer;
    asks[peer].entries.push_back(entry);
  }
  for (auto& [peer, ask] : asks) {
    const absl::StatusOr<Ticket> ticket = Dispatch(layer, batch, ask);
    if (!ticket.ok()) continue;
    const absl::Duration patience =
        oversight_->health().Patience(peer, static_cast<int>(ask.entries.size()));
    audits_.push_back({.flight = {.ticket = *ticket, .asked = std::move(ask)},
                       .late_at = absl::Now() + patience});
  }
}

int MoeLayer::PickAuditor(int layer, const DispatchEntry& entry,
                          const std::vector<bool>& connected) const {
  const int first = recovery_->peer_of(entry);
  if (first == kNoPeer) return kNoPeer;  // nobody holds it now
  const auto is_good = [&](int peer) {
    return connected[peer] && oversight_->health().is_trusted(peer);
  };
  const std::vector<int> holders = directory_->Holders({.layer = layer, .expert = entry.expert});
  // In turn, where there are several.
  for (size_t i = 0; i < holders.size(); ++i) {
    const int peer = holders[(oversight_->audit_draw().num_drawn() + i) % holders.size()];
    if (peer != first && is_good(peer)) return peer;
  }
  return is_good(first) ? first : kNoPeer;
}

absl::Status MoeLayer::CollectAudits(int layer, const Batch& batch) {
  int num_asks = 1;  // with the layer's rows
  while (true) {
    LandAudits(layer);
    if (audits_.empty() && num_asks++ < kMaxAsks) AskAuditors(layer, batch);
    if (audits_.empty()) return absl::OkStatus();
    if (batch.abandoned && batch.abandoned()) {
      return absl::CancelledError(
          absl::StrCat("given up while layer ", layer, " waited for second answers"));
    }
    std::vector<Ticket> tickets;
    absl::Time until = absl::Now() + kLookInterval;
    for (const OpenAudit& audit : audits_) {
      tickets.push_back(audit.flight.ticket);
      until = std::min(until, audit.late_at);
    }
    exchange_->Await(tickets, tickets.size(), until);
  }
}

void MoeLayer::LandAudits(int layer) {
  const absl::Time now = absl::Now();
  std::vector<bool> is_compared(entries_.size());
  std::erase_if(audits_, [&](const OpenAudit& audit) {
    const auto& [ticket, asked] = audit.flight;
    if (!exchange_->Await(ticket, absl::InfinitePast())) {
      if (now < audit.late_at) return false;
      const int num_entries = static_cast<int>(asked.entries.size());
      ShardHealth& health = oversight_->health();
      health.OnLate(asked.peer, num_entries, health.Patience(asked.peer, num_entries), now);
      exchange_->Abandon(ticket);
      return true;
    }
    const CombineReport report =
        exchange_->Combine(ticket, absl::InfinitePast(), oversight_->second_results());
    size_t next = 0;  // of the report, which is in the order of the entries
    for (const DispatchEntry& entry : asked.entries) {
      if (next < report.size() && report[next].entry.result == entry.result) {
        ++next;
        continue;
      }
      Compare(layer, entry, asked.peer);
      is_compared[entry.result] = true;
    }
    return true;
  });
  std::erase_if(to_audit_, [&](const DispatchEntry& entry) { return is_compared[entry.result]; });
}

void MoeLayer::Compare(int layer, const DispatchEntry& entry, int peer) {
  const size_t place = entry.result * result_bytes_;
  oversight_->seconds().Compare({.layer = layer,
                                 .entry = entry,
                                 .rows = rows_.as<std::byte>(),
                                 .first_peer = recovery_->peer_of(entry),
                                 .first = results_.as<std::byte>() + place,
                                 .second_peer = peer,
                                 .second = oversight_->second_results().data() + place});
}

}  // namespace orrery
