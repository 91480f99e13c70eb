// What a world promised and did not keep, in words. The first of them tell the story; more than
// kMaxBroken are not kept.
//
//   Promises promises([this] { return absl::StrCat("step ", num_steps_); });
//   promises.Expect(num_rows <= limit, num_rows, " rows in a step");   // parts as of absl::StrCat
//   EXPECT_THAT(promises.broken(), IsEmpty());                         // {"step 7: 300 rows in a step"}
//
// The sentence is put together only when the promise is broken: a world checks so much after every event
// that it would do little else. What takes work to say (a ToString()) belongs behind an `if` and Break.
#ifndef ORRERY_TESTS_SIMULATION_PROMISES_H_
#define ORRERY_TESTS_SIMULATION_PROMISES_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace orrery {

class Promises {
 public:
  static constexpr size_t kMaxBroken = 20;

  explicit Promises(std::function<std::string()> when) : when_(std::move(when)) {}

  template <typename... Parts>
  void Expect(bool holds, const Parts&... what) {
    if (!holds) Break(absl::StrCat(what...));
  }
  void Break(const std::string& what) {
    if (broken_.size() < kMaxBroken) broken_.push_back(absl::StrCat(when_(), ": ", what));
  }
  const std::vector<std::string>& broken() const { return broken_; }

 private:
  const std::function<std::string()> when_;
  std::vector<std::string> broken_;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_SIMULATION_PROMISES_H_
