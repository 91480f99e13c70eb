// Asks every other member who it is, again and again, and tells what it hears.
//
//   MemberWatch watch(channels, {}, [&](int member, const absl::StatusOr<MemberDescription>& answer) { ... });
//   ...
//   watch.Stop();
//
// What it tells them with each question is made anew each time, if `make_request` is given.
//
// Members are asked side by side, so that one that is silent delays no other. One that is not ready
// is asked more often; one that fails, or says the same again, less and less often, so that an idle
// cluster costs next to nothing. Delays are jittered, so that several askers do not ask in step.
//
// Threads: one of its own, which calls make_request; `on_answer` is called from threads of gRPC, one call at a
// time per member. Neither is called after Stop() has returned, or may block.
#ifndef ORRERY_RPC_MEMBER_WATCH_H_
#define ORRERY_RPC_MEMBER_WATCH_H_

#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "grpcpp/channel.h"
#include "proto/member.grpc.pb.h"

namespace orrery {

struct WatchOptions {
  absl::Duration call_timeout = absl::Seconds(1);
  // After an answer that differs from the one before; doubled by each that does not, up to the other.
  absl::Duration ready_delay = absl::Milliseconds(500);
  absl::Duration max_ready_delay = absl::Seconds(2);
  // Before a member is ready, and after its first failure; doubled by each further one.
  absl::Duration busy_delay = absl::Milliseconds(100);
  absl::Duration max_failure_delay = absl::Seconds(1);
};

// The answers of a member, up to now.
struct WatchHistory {
  bool is_ready = false;
  int num_failures = 0;  // calls in a row that failed
  int num_repeats = 0;   // answers in a row that said nothing new
};

// How long to wait before asking again; `unit` in [0, 1) moves it by up to a fifth either way. (Who is asked together
// with others is asked up to 15 % earlier.)
absl::Duration NextPollDelay(const WatchOptions& options, const WatchHistory& history, double unit);

class MemberWatch {
 public:
  using OnAnswer =
      std::function<void(int member, const absl::StatusOr<internal::MemberDescription>& answer)>;

  using MakeRequest = std::function<internal::DescribeRequest()>;

  MemberWatch(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
              const WatchOptions& options, OnAnswer on_answer, MakeRequest make_request = {});
  ~MemberWatch();
  // Asks it at once; if that is under way, then again when it has answered.
  void AskNow(int member);
  // Cancels what is under way. Idempotent.
  void Stop();

 private:
  struct Call;  // one Describe under way
  struct Member {
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<internal::Member::Stub> stub;
    absl::Time next_poll;
    absl::Duration poll_delay;  // before it
    WatchHistory history;
    internal::MemberDescription last_answer;
    std::shared_ptr<Call> call;
    bool is_asked_again = false;  // while that is under way
  };

  void Loop();
  void StartCall(int index, const std::shared_ptr<Call>& call);
  void OnDone(int index, const absl::StatusOr<internal::MemberDescription>& answer);
  static void Note(const absl::StatusOr<internal::MemberDescription>& answer, Member& member);

  const WatchOptions options_;
  const OnAnswer on_answer_;
  const MakeRequest make_request_;
  absl::Mutex mutex_;
  absl::CondVar
      changed_;  // somebody is to be asked before wake_time_, stopping_ was set, or a call ended then
  std::vector<Member> members_ ABSL_GUARDED_BY(mutex_);
  std::minstd_rand jitter_ ABSL_GUARDED_BY(mutex_){std::random_device{}()};
  // Until then the loop waits, unless somebody signals.
  absl::Time wake_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread loop_;
};

}  // namespace orrery

#endif  // ORRERY_RPC_MEMBER_WATCH_H_
