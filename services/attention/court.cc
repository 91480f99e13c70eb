#include "services/attention/court.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/crc32c.h"
#include "base/log.h"

namespace orrery {
namespace {

// How long it sleeps before it looks whether the batch is still wanted.
constexpr absl::Duration kLookInterval = absl::Milliseconds(20);
constexpr absl::Duration kMinLoadingTime = absl::Milliseconds(1);
constexpr absl::Duration kMaxLoadingTime = absl::Seconds(1);

// "layer 3, expert 7, row 1f2e3d4c"
std::string NameRow(const Dispute& dispute) {
  const std::string_view row(reinterpret_cast<const char*>(dispute.row.data()), dispute.row.size());
  return absl::StrCat("layer ", dispute.key.layer, ", expert ", dispute.key.expert, ", row ",
                      absl::Hex(Crc32c(row), absl::kZeroPad8));
}

}  // namespace

bool Court::Try(const Dispute& dispute, const Batch& batch) {
  const std::pair<int, int> pair = std::minmax(dispute.first.shard, dispute.second.shard);
  const std::vector<bool> quarantined = directory_->Quarantined();
  if (quarantined[pair.first] || quarantined[pair.second]) return false;
  if (undecided_until_[pair] > absl::Now()) return false;

  Trial trial(CaseOf(dispute));
  Hear(trial, dispute, batch);
  for (const Conviction& conviction : trial.convictions()) {
    const std::string why = absl::StrCat("quarantined, as it answers wrongly: asked for ",
                                         NameRow(dispute), ", ", conviction.why);
    LogError(directory_->shard_name(conviction.shard), " is ", why);
    directory_->Quarantine(conviction.shard, why);
  }
  if (!trial.convictions().empty()) return true;
  Suspect(dispute);
  undecided_until_[pair] = absl::Now() + kUndecidedPause;
  return false;
}

Trial::Case Court::CaseOf(const Dispute& dispute) const {
  Trial::Case of = {.first = dispute.first, .second = dispute.second, .holders = {}, .heirs = {}};
  const std::vector<bool> barred = directory_->Barred();
  const auto is_new = [&](int shard) {
    return shard != dispute.first.shard && shard != dispute.second.shard &&
           std::count(of.holders.begin(), of.holders.end(), shard) == 0 &&
           exchange_->connected(shard) && !barred[shard];
  };
  for (const int holder : directory_->Holders(dispute.key)) {
    if (is_new(holder)) of.holders.push_back(holder);
  }
  for (const int heir : directory_->Heirs(dispute.key)) {
    if (is_new(heir)) of.heirs.push_back(heir);
  }
  return of;
}

void Court::Hear(Trial& trial, const Dispute& dispute, const Batch& batch) {
  const absl::Time deadline = absl::Now() + std::min(kMaxTime, batch.expert_timeout);
  std::vector<Asked> out;
  while (!trial.is_over()) {
    const uint64_t version = directory_->version();
    const absl::Time now = absl::Now();
    if (now >= deadline || (batch.abandoned && batch.abandoned())) break;
    for (const int shard : trial.Next(now)) {
      const DispatchEntry entry = {.row = 0, .expert = dispute.key.expert, .result = 0};
      const absl::StatusOr<Ticket> ticket = exchange_->Dispatch(
          dispute.key.layer, batch.lane, {{.peer = shard, .entries = {entry}}}, dispute.row);
      if (ticket.ok()) {
        out.push_back({.ticket = *ticket, .shard = shard, .silent_at = now + kAnswerTime});
      } else {
        trial.OnSilent(shard);
      }
    }
    const absl::Time until = std::min({deadline, trial.wake_at(), now + kLookInterval});
    if (out.empty()) {
      if (!trial.is_over()) directory_->WaitForChange(version, until);
    } else {
      std::vector<Ticket> tickets;
      for (const Asked& asked : out) tickets.push_back(asked.ticket);
      exchange_->Await(tickets, 1, until);
    }
    Land(trial, out);
  }
  for (const Asked& asked : out) exchange_->Abandon(asked.ticket);
}

void Court::Land(Trial& trial, std::vector<Asked>& out) {
  std::erase_if(out, [&](const Asked& asked) {
    if (exchange_->Await(asked.ticket, absl::InfinitePast())) {
      Testify(trial, asked);
      return true;
    }
    if (absl::Now() < asked.silent_at) return false;
    exchange_->Abandon(asked.ticket);
    trial.OnSilent(asked.shard);
    return true;
  });
}

void Court::Testify(Trial& trial, const Asked& asked) {
  const CombineReport report =
      exchange_->Combine(asked.ticket, absl::InfinitePast(), absl::MakeSpan(result_));
  if (report.empty()) return trial.OnAnswer(asked.shard, result_);
  if (report[0].state != EntryState::kLoading) return trial.OnSilent(asked.shard);
  const absl::Duration eta = absl::Milliseconds(report[0].eta_ms);
  trial.OnLoading(asked.shard, absl::Now() + std::clamp(eta, kMinLoadingTime, kMaxLoadingTime));
}

void Court::Suspect(const Dispute& dispute) {
  const std::pair<int, int> both[] = {{dispute.first.shard, dispute.second.shard},
                                      {dispute.second.shard, dispute.first.shard}};
  for (const auto& [shard, other] : both) {
    directory_->Suspect(
        shard, absl::StrCat("suspected: it and ", directory_->shard_name(other), " differ for ",
                            NameRow(dispute), ", and who is wrong could not be found out"));
  }
  LogError(directory_->shard_name(dispute.first.shard), " and ",
           directory_->shard_name(dispute.second.shard), " differ for ", NameRow(dispute),
           ", and who is wrong could not be found out");
}

}  // namespace orrery
