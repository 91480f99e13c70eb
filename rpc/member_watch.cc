#include "rpc/member_watch.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "google/protobuf/util/message_differencer.h"
#include "grpcpp/client_context.h"
#include "rpc/deadline.h"
#include "rpc/status.h"

namespace orrery {

namespace {

// Of its delay, by which a member may be asked early.
constexpr double kEarlyPart = 0.15;

absl::Duration Doubled(absl::Duration delay, int num_times, absl::Duration most) {
  for (int i = 0; i < num_times && delay < most; ++i) delay *= 2;
  return std::min(delay, most);
}

}  // namespace

absl::Duration NextPollDelay(const WatchOptions& options, const WatchHistory& history,
                             double unit) {
  absl::Duration delay = options.busy_delay;
  if (history.num_failures > 0) {
    delay = Doubled(delay, history.num_failures - 1, options.max_failure_delay);
  } else if (history.is_ready) {
    delay = Doubled(options.ready_delay, history.num_repeats, options.max_ready_delay);
  }
  return delay * (0.8 + 0.4 * unit);
}

struct MemberWatch::Call {
  grpc::ClientContext context;
  internal::DescribeRequest request;
  internal::MemberDescription response;
};

MemberWatch::MemberWatch(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
                         const WatchOptions& options, OnAnswer on_answer, MakeRequest make_request)
    : options_(options), on_answer_(std::move(on_answer)), make_request_(std::move(make_request)) {
  for (const std::shared_ptr<grpc::Channel>& channel : channels) {
    Member& member = members_.emplace_back();
    member.channel = channel;
    member.stub = internal::Member::NewStub(channel);
    member.next_poll = absl::InfinitePast();
  }
  loop_ = std::thread([this] { Loop(); });
}

MemberWatch::~MemberWatch() { Stop(); }

void MemberWatch::AskNow(int member) {
  absl::MutexLock lock(&mutex_);
  members_[member].next_poll = absl::InfinitePast();
  members_[member].is_asked_again = members_[member].call != nullptr;
  changed_.Signal();
}

void MemberWatch::Stop() {
  std::vector<std::shared_ptr<Call>> calls;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.Signal();
    for (const Member& member : members_) {
      if (member.call != nullptr) calls.push_back(member.call);
    }
  }
  // Outside the lock: gRPC may run OnDone inside TryCancel.
  for (const std::shared_ptr<Call>& call : calls) call->context.TryCancel();
  if (loop_.joinable()) loop_.join();
}

void MemberWatch::Loop() {
  while (true) {
    std::vector<std::pair<int, std::shared_ptr<Call>>> due;
    {
      absl::MutexLock lock(&mutex_);
      absl::Time next = absl::InfiniteFuture();
      bool any_under_way = false;
      const absl::Time now = absl::Now();
      const bool is_any_due = std::any_of(members_.begin(), members_.end(), [&](const Member& m) {
        return m.call == nullptr && m.next_poll <= now;
      });
      for (int i = 0; i < static_cast<int>(members_.size()); ++i) {
        Member& member = members_[i];
        any_under_way |= member.call != nullptr;
        if (member.call != nullptr || stopping_) continue;
        // Who is due soon goes with those who are: one time that the thread, and gRPC, wake up.
        const absl::Duration early =
            is_any_due ? kEarlyPart * member.poll_delay : absl::ZeroDuration();
        if (member.next_poll - early <= now) {
          member.call = std::make_shared<Call>();
          due.emplace_back(i, member.call);
        } else {
          next = std::min(next, member.next_poll);
        }
      }
      if (stopping_ && !any_under_way) return;
      if (due.empty()) {
        wake_time_ = next;
        changed_.WaitWithDeadline(&mutex_, next);
        wake_time_ = absl::InfinitePast();
        continue;
      }
    }
    for (const auto& [index, call] : due) StartCall(index, call);
  }
}

void MemberWatch::StartCall(int index, const std::shared_ptr<Call>& call) {
  SetDeadline(call->context, absl::Now() + options_.call_timeout);
  if (make_request_) call->request = make_request_();
  internal::Member::Stub* stub = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    stub = members_[index].stub.get();
  }
  stub->async()->Describe(&call->context, &call->request, &call->response,
                          [this, index, call](const grpc::Status& status) {
                            if (status.ok()) {
                              OnDone(index, call->response);
                            } else {
                              OnDone(index, FromGrpcStatus(status));
                            }
                          });
}

void MemberWatch::OnDone(int index, const absl::StatusOr<internal::MemberDescription>& answer) {
  bool is_stopping = false;
  grpc::Channel* channel = nullptr;  // the member keeps it while its call is under way
  {
    absl::MutexLock lock(&mutex_);
    is_stopping = stopping_;
    channel = members_[index].channel.get();
  }
  if (!is_stopping) on_answer_(index, answer);
  // Else gRPC would look less and less often for a name that is not there, in the end every two minutes.
  if (!answer.ok()) grpc::experimental::ChannelResetConnectionBackoff(channel);
  absl::MutexLock lock(&mutex_);
  const double unit = std::uniform_real_distribution<double>(0.0, 1.0)(jitter_);
  Member& member = members_[index];
  Note(answer, member);
  const bool at_once = std::exchange(member.is_asked_again, false);
  member.poll_delay =
      at_once ? absl::ZeroDuration() : NextPollDelay(options_, member.history, unit);
  member.next_poll = absl::Now() + member.poll_delay;
  member.call = nullptr;
  if (stopping_ || member.next_poll < wake_time_) changed_.Signal();
}

void MemberWatch::Note(const absl::StatusOr<internal::MemberDescription>& answer, Member& member) {
  using google::protobuf::util::MessageDifferencer;
  WatchHistory& history = member.history;
  if (!answer.ok()) {
    history = {.is_ready = false, .num_failures = history.num_failures + 1, .num_repeats = 0};
    return;
  }
  const bool is_repeat = MessageDifferencer::Equals(*answer, member.last_answer);
  history = {.is_ready = answer->state() == internal::MEMBER_STATE_READY,
             .num_failures = 0,
             .num_repeats = is_repeat ? history.num_repeats + 1 : 0};
  if (!is_repeat) member.last_answer = *answer;
}

}  // namespace orrery
