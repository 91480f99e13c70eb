// Two answers to one row differ: which shard is wrong? A state machine without I/O; the time is passed in.
//
//   Trial trial({.first = {.shard = 1, .result = a}, .second = {.shard = 2, .result = b},
//                .holders = {3}, .heirs = {4, 0}});
//   while (!trial.is_over()) {
//     for (const int shard : trial.Next(now)) ask that shard for the row once more
//     trial.OnAnswer(shard, result), OnLoading(shard, again_at) or OnSilent(shard), once for each
//   }
//   for (const Conviction& conviction : trial.convictions()) ask that shard for nothing any more
//
// An expert is a function of its row and of nothing else. Hence:
//   1. A shard that gives two answers to one row is wrong, whatever the others say.
//   2. Where each sticks to its own, and three or more have answered, they are wrong who are outvoted: by
//      the largest group of equal answers, if it has two or more members and no other has as many.
// The first rule finds what flips bits now and then, and needs nobody else; the second what is wrong in the
// same way each time.
//
// Rounds: first the two again, and all other holders; while that decides nothing, the two again and, as long
// as fewer than three have answered, an heir: it loads the expert for the sake of a third opinion. After
// kMaxRounds nobody is convicted: with two shards that each stick to their own, and no third, nobody can know.
//
// Not found out: two that are wrong in the same way, and a rank that spoils what it receives. The
// latter convicts one shard after the other until it has none to ask; then it is not ready any more, and routers
// go to other ranks.
#ifndef ORRERY_SERVICES_ATTENTION_TRIAL_H_
#define ORRERY_SERVICES_ATTENTION_TRIAL_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"

namespace orrery {

// What a shard answered to a row.
struct Testimony {
  int shard = 0;
  std::vector<std::byte> result;
};

struct Conviction {
  int shard = 0;
  std::string why;  // "it gave different answers when asked 3 times"
};

class Trial {
 public:
  static constexpr int kMaxRounds = 4;

  struct Case {
    // The two that differ; of one shard, if it was asked twice.
    Testimony first;
    Testimony second;
    // Others that hold the expert, and those that could load it, in the order in which they should be asked.
    std::vector<int> holders;
    std::vector<int> heirs;
  };
  explicit Trial(const Case& of);

  // Whom to ask now; each is asked once until its answer is told.
  std::vector<int> Next(absl::Time now);
  // When Next has somebody to name, if no answer comes before.
  absl::Time wake_at() const;

  void OnAnswer(int shard, absl::Span<const std::byte> result);
  // It loads the expert; to be asked again then.
  void OnLoading(int shard, absl::Time again_at);
  // It is gone, does not answer, or does not hold the expert: it is heard no more.
  void OnSilent(int shard);

  bool is_over() const { return is_over_; }
  // Once it is over; empty if nobody could be found guilty.
  const std::vector<Conviction>& convictions() const { return convictions_; }

 private:
  struct Witness {
    int shard = 0;
    bool is_accused = false;
    std::vector<int> answers = {};  // indices into answers_
    bool is_wanted = false;         // has yet to answer in this round
    bool is_asked = false;          // and has been asked
    bool is_silent = false;
    absl::Time ask_at = absl::InfinitePast();

    bool has_contradicted_itself() const;
  };

  Witness& Find(int shard);
  void Hear(Witness& witness, absl::Span<const std::byte> result);
  // Decides when everybody of the round has been heard, or goes on to the next.
  void EndRoundIfOver();
  void BeginRound();
  void Judge();
  // The answer of the largest group, or -1 where the second rule does not apply.
  int MajorityAnswer() const;
  int NumHeard() const;

  std::vector<std::vector<std::byte>> answers_;  // that differ
  std::vector<Witness> witnesses_;
  std::vector<int> heirs_;
  int round_ = 0;
  bool is_over_ = false;
  std::vector<Conviction> convictions_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_TRIAL_H_
