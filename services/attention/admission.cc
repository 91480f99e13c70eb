#include "services/attention/admission.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/refusal_times.h"

namespace orrery {
namespace {

// The weight of the newest of what is averaged: some 32 of them count.
constexpr double kGain = 1.0 / 32;
constexpr double kCaution = 4.0 / 3;
constexpr absl::Duration kMinRetryAfter = absl::Milliseconds(100);
constexpr absl::Duration kMaxRetryAfter = absl::Seconds(60);
// Before anything is known.
constexpr absl::Duration kUsualRetryAfter = absl::Seconds(1);

void Average(absl::Duration sample, absl::Duration& mean) {
  mean = mean == absl::ZeroDuration() ? sample : mean + kGain * (sample - mean);
}

absl::Status Refuse(absl::Duration retry_after, const std::string& message) {
  const absl::Duration after = retry_after > absl::ZeroDuration()
                                   ? std::clamp(retry_after, kMinRetryAfter, kMaxRetryAfter)
                                   : kUsualRetryAfter;
  return WithRetryAfter(absl::ResourceExhaustedError(message), after);
}

}  // namespace

absl::Status Admission::Take(const Visit& visit, absl::Time now) {
  RETURN_IF_ERROR(CheckSize(visit));
  if (visit.is_replay) return TakeReplay(visit);
  const auto found = tenants_.find(visit.tenant);
  const Tenant before = found == tenants_.end() ? Tenant() : found->second;
  RETURN_IF_ERROR(CheckPlaces(before));
  RETURN_IF_ERROR(CheckTokens(before, visit.num_tokens));
  RETURN_IF_ERROR(CheckBytes(before, visit.num_bytes));
  RETURN_IF_ERROR(CheckTime(before, visit, now));
  Tenant& tenant = tenants_[visit.tenant];
  ++tenant.num_open;
  ++tenant.num_waiting;
  tenant.num_waiting_tokens += visit.num_tokens;
  tenant.num_bytes += visit.num_bytes;
  ++num_open_;
  ++num_waiting_;
  num_waiting_tokens_ += visit.num_tokens;
  num_bytes_ += visit.num_bytes;
  return absl::OkStatus();
}

absl::Status Admission::CheckSize(const Visit& visit) const {
  if (visit.num_bytes <= options_.max_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the request may hold ", visit.num_bytes, " bytes of this rank, all requests together ",
      options_.max_bytes,
      "; ask for less (max_new_tokens, num_choices, num_top_logprobs), or give the rank more "
      "(memory_bytes)"));
}

absl::Status Admission::TakeReplay(const Visit& visit) {
  const int num_places = 2 * options_.max_open;
  if (num_replays_ >= num_places) {
    return Refuse(interval_,
                  absl::StrCat("this rank holds ", num_replays_, " replayed requests of at most ",
                               num_places, "; try again later"));
  }
  const int64_t num_taken = num_replay_bytes_ + num_unread_replay_bytes_;
  if (visit.num_bytes > options_.max_bytes - num_taken) {
    return Refuse(interval_,
                  absl::StrCat("replayed requests hold up to ", num_taken,
                               " bytes of this rank, one more may hold ", visit.num_bytes,
                               ", the limit is ", options_.max_bytes, "; try again later"));
  }
  ++num_replays_;
  num_replay_bytes_ += visit.num_bytes;
  return absl::OkStatus();
}

absl::Status Admission::CheckPlaces(const Tenant& tenant) const {
  const int num_places = 2 * options_.max_open;
  if (tenant.num_open < num_places - num_open_) return absl::OkStatus();
  return Refuse(WaitOf(tenant) / 2,
                absl::StrCat("this rank holds ", num_open_, " requests, ", tenant.num_open,
                             " of this tenant; of ", num_places,
                             " places a tenant may take as many as it leaves free; try again "
                             "later"));
}

absl::Status Admission::CheckTokens(const Tenant& tenant, int64_t num_tokens) const {
  const int64_t num_places = 2 * options_.max_waiting_tokens;
  // What is alone may be of any length: it fits the context.
  if (tenant.num_waiting == 0) return absl::OkStatus();
  if (tenant.num_waiting_tokens + num_tokens <= num_places - num_waiting_tokens_) {
    return absl::OkStatus();
  }
  return Refuse(WaitOf(tenant) / 2,
                absl::StrCat("prompts of ", num_waiting_tokens_, " tokens wait at this rank, ",
                             tenant.num_waiting_tokens, " of this tenant, which asks for ",
                             num_tokens, " more; of ", num_places,
                             " a tenant may take as many as it leaves free "
                             "(limits.max_waiting_tokens); try again later"));
}

absl::Status Admission::CheckBytes(const Tenant& tenant, int64_t num_bytes) const {
  const int64_t num_left = options_.max_bytes - num_bytes_ - num_unread_bytes_;
  const bool leaves_enough = tenant.num_open == 0 || tenant.num_bytes + num_bytes <= num_left;
  if (num_bytes <= num_left && leaves_enough) return absl::OkStatus();
  return Refuse(
      WaitOf(tenant) / 2,
      absl::StrCat(
          "requests may hold ", num_bytes_, " bytes of this rank, ", tenant.num_bytes,
          " of them of this tenant, and clients have yet to read ", num_unread_bytes_,
          "; this tenant asks for ", num_bytes, " more; of ", options_.max_bytes,
          " a tenant may take as many as it leaves free (a smaller max_new_tokens asks for "
          "less, a larger memory_bytes of the rank has more); try again later"));
}

absl::Status Admission::CheckTime(const Tenant& tenant, const Visit& visit, absl::Time now) const {
  if (tenant.num_waiting == 0 || visit.deadline == absl::InfiniteFuture()) return absl::OkStatus();
  const absl::Duration needed = kCaution * (WaitOf(tenant) + service_);
  const absl::Duration left = visit.deadline - now;
  if (needed <= left) return absl::OkStatus();
  return WithNeededTime(
      Refuse(
          needed - left,
          absl::StrCat(tenant.num_waiting, " requests of this tenant wait at this rank; one ",
                       "more would take some ",
                       absl::FormatDuration(absl::Trunc(needed, absl::Milliseconds(1))),
                       ", and has ", absl::FormatDuration(absl::Trunc(left, absl::Milliseconds(1))),
                       " until its deadline; try again later")),
      needed);
}

absl::Duration Admission::WaitOf(const Tenant& tenant) const {
  return tenant.num_waiting * std::max(NumWaitingTenants(), 1) * interval_;
}

int Admission::NumWaitingTenants() const {
  return static_cast<int>(std::count_if(tenants_.begin(), tenants_.end(), [](const auto& tenant) {
    return tenant.second.num_waiting > 0;
  }));
}

void Admission::OnStarted(Visit& visit, absl::Time now) {
  if (visit.started_at.has_value()) return;
  StopWaiting(visit);
  visit.started_at = now;
}

void Admission::StopWaiting(const Visit& visit) {
  if (visit.is_replay) return;
  Tenant& tenant = tenants_.at(visit.tenant);
  --tenant.num_waiting;
  tenant.num_waiting_tokens -= visit.num_tokens;
  --num_waiting_;
  num_waiting_tokens_ -= visit.num_tokens;
  if (num_waiting_ == 0) last_end_.reset();
}

void Admission::OnEnded(const Visit& visit, bool is_served, absl::Time now) {
  if (visit.started_at.has_value()) {
    if (is_served) NoteServed(visit, now);
  } else {
    StopWaiting(visit);
  }
  if (visit.is_replay) {
    --num_replays_;
    num_replay_bytes_ -= visit.num_bytes;
    return;
  }
  --num_open_;
  num_bytes_ -= visit.num_bytes;
  const auto tenant = tenants_.find(visit.tenant);
  tenant->second.num_bytes -= visit.num_bytes;
  if (--tenant->second.num_open == 0) tenants_.erase(tenant);
}

void Admission::NoteServed(const Visit& visit, absl::Time now) {
  Average(now - *visit.started_at, service_);
  if (last_end_.has_value()) Average(now - *last_end_, interval_);
  last_end_.reset();
  if (num_waiting_ > 0) last_end_ = now;
}

}  // namespace orrery
