// Destroys pipes in threads of its own: that may block, because what is under way on a GPU has to end first.
// Nobody else waits for it. A burial that hangs holds up its own thread; once kMaxThreads hang, those that
// come later wait, and keep their slots, so that there is an end to how many there can be (slots.h).
//
//   undertaker.Bury(std::move(pipe));
//
// Threads: safe. The destructor waits for the burials under way, at most for its patience; those that hang
// beyond it are left to themselves, with all that they use.
#ifndef ORRERY_EXCHANGE_EDGE_UNDERTAKER_H_
#define ORRERY_EXCHANGE_EDGE_UNDERTAKER_H_

#include <memory>

#include "absl/time/time.h"
#include "exchange/edge/pipe.h"

namespace orrery {

class Undertaker {
 public:
  static constexpr int kMaxThreads = 4;

  explicit Undertaker(absl::Duration patience);
  ~Undertaker();
  Undertaker(const Undertaker&) = delete;
  Undertaker& operator=(const Undertaker&) = delete;

  // Null is nothing.
  void Bury(std::unique_ptr<Pipe> pipe);

 private:
  struct Graveyard;
  static void Work(Graveyard& yard);

  const absl::Duration patience_;
  const std::shared_ptr<Graveyard> yard_;  // the threads hold on to it
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_EDGE_UNDERTAKER_H_
