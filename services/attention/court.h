// Finds out who is wrong where two answers differ: asks shards for the disputed row again until a trial
// (trial.h) is over, and quarantines who was convicted.
//
//   if (court.Try(dispute, batch)) ...   // somebody was: nothing that it gave is to be used
//
// The engine's loop waits meanwhile: for some round trips, or until an heir has loaded the expert, at most
// kMaxTime, and no longer than anybody wants the batch. Disputes are rare: without broken hardware there are none.
//
// Convicted or suspected, why is told by the directory, and logged once. A pair of shards that were left undecided
// is not tried again for kUndecidedPause.
// Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_COURT_H_
#define ORRERY_SERVICES_ATTENTION_COURT_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "exchange/exchange.h"
#include "services/attention/batch.h"
#include "services/attention/expert_directory.h"
#include "services/attention/second_answers.h"
#include "services/attention/trial.h"

namespace orrery {

class Court {
 public:
  static constexpr absl::Duration kMaxTime = absl::Seconds(10);
  // A shard that has not answered for so long is heard no more in this trial.
  static constexpr absl::Duration kAnswerTime = absl::Seconds(2);
  static constexpr absl::Duration kUndecidedPause = absl::Seconds(10);

  // Both outlive it.
  Court(RankExchange* exchange, ExpertDirectory* directory, size_t result_bytes)
      : exchange_(exchange), directory_(directory), result_(result_bytes) {}

  // Whether a shard was convicted. False too if one of the two has been before.
  bool Try(const Dispute& dispute, const Batch& batch);

 private:
  struct Asked {
    Ticket ticket;
    int shard = 0;
    absl::Time silent_at;
  };
  Trial::Case CaseOf(const Dispute& dispute) const;
  void Hear(Trial& trial, const Dispute& dispute, const Batch& batch);
  // What came of the asks that are out.
  void Land(Trial& trial, std::vector<Asked>& out);
  void Testify(Trial& trial, const Asked& asked);
  void Suspect(const Dispute& dispute);

  RankExchange* const exchange_;
  ExpertDirectory* const directory_;
  std::vector<std::byte> result_;
  std::map<std::pair<int, int>, absl::Time> undecided_until_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_COURT_H_
