// One background thread that looks after channels: opens streams when their pause is over, gives up
// those that hang.
//
//   auto caretaker = std::make_shared<Caretaker>(max_nap);
//   caretaker->Add(this);     // from now on TakeCare is called, at the latest when it asked for
//   caretaker->Wake();        // something changed: look again now
//   caretaker->Remove(this);  // no call runs, or will run
//
// The thread ends with the object.
#ifndef ORRERY_EXCHANGE_CARETAKER_H_
#define ORRERY_EXCHANGE_CARETAKER_H_

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace orrery {

class CaredFor {
 public:
  virtual ~CaredFor() = default;
  // Does what is due, without blocking, and says when to come again.
  virtual absl::Time TakeCare(absl::Time now) = 0;
};

class Caretaker {
 public:
  // It looks at least this often: a time limit of t is noticed within t + max_nap.
  explicit Caretaker(absl::Duration max_nap);
  ~Caretaker();

  void Add(CaredFor* cared_for);
  void Remove(CaredFor* cared_for);
  // May be called under a lock that TakeCare takes.
  void Wake();

 private:
  void Loop();

  const absl::Duration max_nap_;
  std::mutex members_mutex_;  // held during TakeCare
  std::vector<CaredFor*> members_;
  std::mutex wake_mutex_;
  std::condition_variable wake_;
  bool woken_ = false;     // guarded by wake_mutex_
  bool stopping_ = false;  // guarded by wake_mutex_
  std::thread thread_;     // last: it uses the others
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_CARETAKER_H_
