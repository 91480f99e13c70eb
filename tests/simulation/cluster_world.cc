#include "tests/simulation/cluster_world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

std::string RankName(int rank) { return absl::StrCat("attention-", rank); }

Membership MakeMembership(int num_ranks) {
  std::vector<MemberInfo> members;
  for (int rank = 0; rank < num_ranks; ++rank) {
    members.push_back({internal::ROLE_ATTENTION, RankName(rank), absl::StrCat("rank:", 1 + rank)});
  }
  return Membership(std::move(members), {.config_hash = "c", .files = {}});
}

std::unique_ptr<RouterCore> MakeCore(int num_ranks) {
  // In storms like these more than a few ranks may fail a request in a row.
  return std::make_unique<RouterCore>(
      RouterCore::Options{.max_open_requests = 1000, .max_attempts = 100},
      MakeMembership(num_ranks));
}

}  // namespace

ClusterWorld::ClusterWorld(EventLoop& loop, const ClusterWorldSpec& spec)
    : loop_(loop), spec_(spec), core_(MakeCore(spec.num_ranks)) {
  for (int rank = 0; rank < spec.num_ranks; ++rank) {
    ranks_.emplace_back();
    Describe(rank);
  }
}

void ClusterWorld::Run() {
  absl::Time arrival = loop_.Now();
  for (int64_t id = 1; id <= spec_.num_requests; ++id) {
    arrival += loop_.Between(absl::ZeroDuration(), 2 * spec_.arrival_gap);
    loop_.At(arrival, [this, id] { Arrive(id); });
  }
  loop_.RunUntil(loop_.Now() + absl::Hours(1));
  promises_.Expect(num_ended_ == spec_.num_requests, num_ended_, " requests ended");
  promises_.Expect(core_->num_open_requests() == 0, core_->num_open_requests(),
                   " requests are left open");
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    promises_.Expect(ranks_[rank].sequences.empty(), RankName(rank), " has sequences left");
  }
}

void ClusterWorld::Arrive(int64_t id) {
  Request& request = requests_[id];
  request.num_prompt_tokens = 1 + static_cast<int>(loop_.Below(spec_.max_prompt_tokens));
  request.num_answer_tokens = 1 + static_cast<int>(loop_.Below(spec_.max_answer_tokens));
  Do(id, core_->OnRequest(id, /*tenant=*/""));
}

void ClusterWorld::Do(int64_t id, const Action& action) {
  switch (action.kind) {
    case Action::Kind::kStart:
      Start(id, action.member, action.is_replay);
      break;
    case Action::Kind::kWait:
      loop_.After(action.delay,
                  [this, id, attempt = ++requests_[id].attempt] { Retry(id, attempt); });
      break;
    case Action::Kind::kForward:
      ++requests_[id].num_received;
      break;
    case Action::Kind::kFinish:
      // Its client tries again: no rank was there.
      if (requests_[id].is_resumed && absl::IsUnavailable(action.status)) {
        loop_.After(absl::Milliseconds(50),
                    [this, id, attempt = ++requests_[id].attempt] { Resume(id, attempt); });
      } else {
        End(id, action.status);
      }
      break;
  }
}

void ClusterWorld::Retry(int64_t id, int attempt) {
  const Request& request = requests_[id];
  if (!request.has_ended && request.attempt == attempt) Do(id, core_->OnRetry(id));
}

void ClusterWorld::Start(int64_t id, int rank, bool is_replay) {
  Request& request = requests_[id];
  promises_.Expect(is_replay || !request.was_taken, "request ", id, " starts anew");
  request.rank = rank;
  const int attempt = ++request.attempt;
  num_replays_ += is_replay;
  loop_.After(Latency(), [this, id, rank, attempt, is_replay] {
    Request& started = requests_[id];
    if (started.has_ended || started.attempt != attempt) return;
    if (!ranks_[rank].is_alive)
      return SendEnd(id, attempt, absl::UnavailableError("connection refused"));
    Rank& r = ranks_[rank];
    if (is_replay ? r.num_replays() >= spec_.max_replays
                  : r.num_waiting() >= spec_.max_waiting_requests) {
      return SendEnd(id, attempt, absl::ResourceExhaustedError("too many wait"));
    }
    started.was_taken = true;
    // All that was lost is its end.
    if (started.num_received == started.num_answer_tokens)
      return SendEnd(id, attempt, absl::OkStatus());
    r.sequences[next_sequence_++] = {
        .request = id,
        .is_replay = is_replay,
        .num_tokens = started.num_prompt_tokens + started.num_received};
    Step(rank);
  });
}

int ClusterWorld::Rank::num_running() const {
  return std::count_if(sequences.begin(), sequences.end(),
                       [](const auto& entry) { return entry.second.running; });
}
int ClusterWorld::Rank::num_waiting() const {
  return static_cast<int>(sequences.size()) - num_running();
}

int ClusterWorld::Rank::num_replays() const {
  return std::count_if(sequences.begin(), sequences.end(),
                       [](const auto& entry) { return entry.second.is_replay; });
}

void ClusterWorld::Step(int rank) {
  Rank& r = ranks_[rank];
  if (!r.is_alive || r.is_stepping || r.sequences.empty()) return;
  r.is_stepping = true;
  Plan(r);
  loop_.After(loop_.Between(absl::Microseconds(200), absl::Milliseconds(1)),
              [this, rank, life = r.life] { FinishStep(rank, life); });
}

void ClusterWorld::Plan(Rank& rank) {
  Snapshot snapshot{
      .sequences = {}, .tenants = {{rank.credit}}, .num_free_blocks = spec_.num_blocks};
  for (const auto& [id, sequence] : rank.sequences) {
    snapshot.sequences.push_back({.id = id,
                                  .running = sequence.running,
                                  .num_tokens = sequence.num_tokens,
                                  .num_computed = sequence.num_computed,
                                  .num_blocks = sequence.num_blocks,
                                  .num_own_blocks = sequence.num_blocks});
    snapshot.num_free_blocks -= sequence.num_blocks;
  }
  rank.plan = PlanStep(snapshot, spec_.scheduler);
  rank.credit = rank.plan.credits[0];
  for (const SequenceId id : rank.plan.preempted) {
    Sequence& sequence = rank.sequences.at(id);
    sequence = {.request = sequence.request,
                .is_replay = sequence.is_replay,
                .num_tokens = sequence.num_tokens};
    ++num_preemptions_;
  }
  for (const SequenceId id : rank.plan.admitted) rank.sequences.at(id).running = true;
  const int block_tokens = spec_.scheduler.block_tokens;
  int num_rows = 0;
  for (const StepSlice& slice : rank.plan.slices) {
    num_rows += slice.num_rows;
    Sequence& sequence = rank.sequences.at(slice.id);
    const int end = sequence.num_computed + slice.num_rows;
    sequence.num_blocks = std::max(sequence.num_blocks, (end + block_tokens - 1) / block_tokens);
  }
  int num_blocks = 0;
  for (const auto& [id, sequence] : rank.sequences) num_blocks += sequence.num_blocks;
  promises_.Expect(num_rows > 0 && num_rows <= spec_.scheduler.max_step_rows, "a step of ",
                   num_rows, " rows");
  promises_.Expect(num_blocks <= spec_.num_blocks, num_blocks, " blocks in use");
}

void ClusterWorld::FinishStep(int rank, int life) {
  Rank& r = ranks_[rank];
  if (r.life != life) return;
  r.is_stepping = false;
  if (loop_.Happens(spec_.crash_per_step)) return Crash(rank);
  for (const StepSlice& slice : r.plan.slices) FinishSlice(r, slice);
  Step(rank);
}

void ClusterWorld::FinishSlice(Rank& rank, const StepSlice& slice) {
  const auto it = rank.sequences.find(slice.id);
  if (it == rank.sequences.end()) return;  // cancelled during the step
  Sequence& sequence = it->second;
  sequence.num_computed += slice.num_rows;
  if (sequence.num_computed < sequence.num_tokens) return;
  const int64_t id = sequence.request;
  const Request& request = requests_[id];
  const int number = sequence.num_tokens++ - request.num_prompt_tokens;
  SendToken(id, request.attempt, number);
  if (number + 1 < request.num_answer_tokens) return;
  rank.sequences.erase(it);
  SendEnd(id, request.attempt, absl::OkStatus());
}

// Tokens of one stream arrive in order: each travels as long as the clock says, but never
// overtakes.
void ClusterWorld::SendToken(int64_t id, int attempt, int number) {
  loop_.After(absl::Microseconds(50), [this, id, attempt, number] {
    Request& request = requests_[id];
    if (request.has_ended || request.attempt != attempt) return;
    promises_.Expect(number == request.num_received, "request ", id, " got token ", number,
                     " after ", request.num_received);
    Do(id, core_->OnToken(id));
    if (loop_.Happens(spec_.cancel_per_token)) Cancel(id);
    if (loop_.Happens(spec_.router_crash_per_token)) CrashRouter();
  });
}

void ClusterWorld::SendEnd(int64_t id, int attempt, const absl::Status& status) {
  loop_.After(absl::Microseconds(50), [this, id, attempt, status] {
    const Request& request = requests_[id];
    if (request.has_ended || request.attempt != attempt) return;
    if (status.ok()) {
      promises_.Expect(request.num_received == request.num_answer_tokens, "request ", id,
                       " lost a token");
    }
    Do(id, status.ok() ? core_->OnEnded(id) : core_->OnFailed(id, status));
  });
}

// Its open requests go with it, and their sequences; of the last tokens some have not reached the clients.
void ClusterWorld::CrashRouter() {
  ++num_router_crashes_;
  core_ = MakeCore(spec_.num_ranks);
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    ranks_[rank].sequences.clear();
    if (ranks_[rank].is_alive) Describe(static_cast<int>(rank));
  }
  for (auto& [id, request] : requests_) {
    if (request.has_ended) continue;
    request.num_received -= static_cast<int>(loop_.Below(1 + std::min(3, request.num_received)));
    request.is_resumed = true;
    loop_.After(loop_.Between(absl::Milliseconds(1), absl::Milliseconds(100)),
                [this, id = id, attempt = ++request.attempt] { Resume(id, attempt); });
  }
}

void ClusterWorld::Resume(int64_t id, int attempt) {
  if (requests_[id].attempt != attempt) return;  // its router crashed again meanwhile
  ++num_resumed_;
  const ModelIdentity model = {.fingerprint = {.config_hash = "c", .files = {}},
                               .numerics_id = "n"};
  Do(id, core_->OnResumed(id, /*tenant=*/"", model));
}

void ClusterWorld::Cancel(int64_t id) {
  if (requests_[id].has_ended) return;
  Rank& r = ranks_[requests_[id].rank];
  std::erase_if(r.sequences, [id](const auto& entry) { return entry.second.request == id; });
  Do(id, core_->OnCancelled(id));
}

void ClusterWorld::Crash(int rank) {
  Rank& r = ranks_[rank];
  ++num_crashes_;
  ++r.life;
  r.is_alive = false;
  for (const auto& [sequence_id, sequence] : std::exchange(r.sequences, {})) {
    const int64_t id = sequence.request;
    SendEnd(id, requests_[id].attempt, absl::UnavailableError("connection reset"));
  }
  core_->OnUnreachable(rank, "connection reset");
  loop_.After(loop_.Between(absl::Milliseconds(10), absl::Milliseconds(300)), [this, rank] {
    ranks_[rank].is_alive = true;
    Describe(rank);
  });
}

void ClusterWorld::Describe(int rank) {
  internal::MemberDescription description;
  description.set_name(RankName(rank));
  description.set_role(internal::ROLE_ATTENTION);
  description.set_state(internal::MEMBER_STATE_READY);
  description.set_numerics_id("n");
  description.mutable_fingerprint()->set_config_hash("c");
  description.mutable_load()->set_running_requests(ranks_[rank].num_running());
  description.mutable_load()->set_waiting_requests(ranks_[rank].num_waiting());
  core_->OnDescription(rank, description);
}

void ClusterWorld::End(int64_t id, const absl::Status& status) {
  Request& request = requests_[id];
  promises_.Expect(!request.has_ended, "request ", id, " ended twice");
  request.has_ended = true;
  if (request.was_taken && !status.ok() && !absl::IsCancelled(status)) {
    promises_.Break(absl::StrCat("request ", id, " is lost: ", status.ToString()));
  }
  ++num_ended_;
  ++endings_[status.code()];
  for (Rank& rank : ranks_) {
    int num_requests = 0;
    for (const auto& [sequence_id, sequence] : rank.sequences)
      num_requests += sequence.request == id;
    promises_.Expect(num_requests == 0, "request ", id, " ended, but its sequence goes on");
  }
}

}  // namespace orrery
