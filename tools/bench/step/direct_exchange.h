// An exchange without a way: the shard's work is done inside Dispatch, by the caller's own thread.
//
// What a step takes with it is the time of its kernels, of both sides, and nothing else. For
// measurements only. Threads: the caller's.
#ifndef ORRERY_TOOLS_BENCH_STEP_DIRECT_EXCHANGE_H_
#define ORRERY_TOOLS_BENCH_STEP_DIRECT_EXCHANGE_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "exchange/exchange.h"
#include "services/expert/shard.h"

namespace orrery {

class DirectExchange : public RankExchange {
 public:
  // One peer, which holds all experts. The shard outlives this.
  explicit DirectExchange(Shard* shard) : shard_(shard) {}

  int num_peers() const override { return 1; }
  bool connected(int peer) const override { return true; }
  bool AwaitConnected(int peer, absl::Time deadline) override { return true; }
  absl::StatusOr<Ticket> Dispatch(int layer, Lane lane, const DispatchPlan& plan,
                                  absl::Span<const std::byte> rows) override;
  bool Await(absl::Span<const Ticket> tickets, size_t num_settled, absl::Time deadline) override {
    return true;
  }
  std::optional<absl::Duration> AnsweredAfter(Ticket ticket) const override {
    return absl::ZeroDuration();
  }
  CombineReport Combine(Ticket ticket, absl::Time deadline, absl::Span<std::byte> results) override;
  void Abandon(Ticket ticket) override {}
  ReplyCounters counters() const override { return {}; }
  void Close() override {}

  int num_dispatches() const { return num_dispatches_; }

 private:
  Shard* const shard_;
  std::vector<EntryOutcome> entries_;  // of the open ticket
  std::vector<std::byte> results_;     // in the order of entries_
  int num_dispatches_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_STEP_DIRECT_EXCHANGE_H_
