// Threads that wait for sockets and times, for the members of a transport.
//
//   ASSIGN_OR_RETURN(auto poller, Poller::Create(/*num_threads=*/1));
//   const uint64_t id = poller->Add(member);     // a shared_ptr<Poller::Member>
//   poller->Watch(id, socket);                   // OnReady once, when there is something to read
//   poller->Wake();                              // OnTime of all, soon
//   poller->Remove(id);                          // no call runs, or will run
//
// OnReady comes once per Watch, so a member is in at most one OnReady at a time and the next thread
// waits while it works. OnTime comes at the latest when it asked to, by any thread.
//
// Internal to exchange/shm.
// Threads: all but Stop and Remove may be called from anywhere, also from within a call
// of a member, and under locks that members take.
#ifndef ORRERY_EXCHANGE_SHM_POLLER_H_
#define ORRERY_EXCHANGE_SHM_POLLER_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/shm/fd.h"

namespace orrery {

class Poller {
 public:
  class Member {
   public:
    virtual ~Member() = default;
    virtual void OnReady() = 0;
    // Does what is due, without blocking, and says when to come again.
    virtual absl::Time OnTime(absl::Time now) { return absl::InfiniteFuture(); }
  };

  // look_time: how long a thread goes on looking, without sleeping but behind everybody who has
  // something to do, after something was ready.
  static absl::StatusOr<std::unique_ptr<Poller>> Create(
      int num_threads, absl::Duration look_time = absl::ZeroDuration());
  ~Poller() { Stop(); }
  // Waits for calls that run; there are none afterwards.
  void Stop();

  uint64_t Add(std::shared_ptr<Member> member);
  // at_once: even if there is nothing to read. The socket must be closed only after Unwatch.
  void Watch(uint64_t id, int socket, bool at_once = false);
  void Unwatch(int socket);
  void Wake();
  void Remove(uint64_t id);
  // Does not wait for calls that run: from within them.
  void Forget(uint64_t id);

 private:
  struct Entry {
    std::shared_ptr<Member> member;
    int num_calls = 0;  // under way
  };

  Poller(UniqueFd epoll, UniqueFd wake, absl::Duration look_time)
      : look_time_(look_time), epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  void Loop();
  void Call(uint64_t id, const std::function<void(Member&)>& call);
  // Calls OnTime if it is time, and says how long to wait at most, in milliseconds; -1: no limit.
  int RunTimes();
  void Ring();

  const absl::Duration look_time_;
  const UniqueFd epoll_;
  const UniqueFd wake_;  // an eventfd
  std::atomic<bool> stopping_ = false;

  std::mutex mutex_;
  std::condition_variable returned_;
  // Guarded by mutex_.
  std::map<uint64_t, std::shared_ptr<Entry>> entries_;
  uint64_t next_id_ = 1;
  absl::Time next_time_ = absl::InfinitePast();

  std::vector<std::thread> threads_;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_POLLER_H_
