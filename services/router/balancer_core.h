// When and what this router balances, without I/O: descriptions of the members and row counts of the shards in,
// lists of copies out (placement/balancer.h says which).
//
//   if (!core.IsOurs(membership)) return core.Forget();         // another router does it
//   for (int shard : core.Shards(membership)) core.OnRows(shard, counts of shard);
//   for (const BalanceOrder& order : core.Decide(membership, now)) tell order.member to hold order.copies;
//
// Of the live routers the one with the lowest name balances. Two that each believe to be it are wasteful and not
// wrong: a shard holds what it was last told, and never drops a last copy.
//
// Rows: shards count since their start; here the difference to the round before counts in full, and that of each
// round before half as much as of the next. The first count of a shard is only where its next one starts.
//
// Threads: none; belongs to the balancer's loop.
#ifndef ORRERY_SERVICES_ROUTER_BALANCER_CORE_H_
#define ORRERY_SERVICES_ROUTER_BALANCER_CORE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "placement/balancer.h"
#include "placement/placement.h"
#include "proto/member.pb.h"
#include "proto/placement.pb.h"
#include "services/router/membership.h"

namespace orrery {

struct BalanceOrder {
  int member = -1;
  std::vector<ExpertKey> copies;  // the whole list
};

class BalancerCore {
 public:
  // A copy that a shard was told to hold counts as there for so long, as it may be loading it.
  static constexpr absl::Duration kLoadTime = absl::Minutes(1);

  struct Options {
    std::string self;    // this router
    int num_groups = 1;  // gate groups of a layer
    // By index in the membership, of every expert shard: its home, empty for a spare.
    std::map<int, ExpertRange> homes;
  };

  explicit BalancerCore(Options options) : options_(std::move(options)) {}

  bool IsOurs(const Membership& membership) const;
  // What was counted and said so far is of no use any more.
  void Forget();
  // Who is to be asked for its counts.
  std::vector<int> Shards(const Membership& membership) const;
  void OnRows(int member, const internal::RowCounts& counts);
  // Ends a round: an order for each shard that takes copies.
  std::vector<BalanceOrder> Decide(const Membership& membership, absl::Time now);
  // Whether the last round moved copies, and how it stands; for `orrery status`.
  bool has_moved() const { return has_moved_; }
  const internal::BalanceView& view() const { return view_; }

 private:
  using Key = std::pair<int, int>;                  // (layer, expert)
  using Rows = std::map<int, std::vector<double>>;  // by layer: by expert
  struct Told {
    std::vector<ExpertKey> copies;
    absl::Time at;
  };
  struct Shard {
    std::map<int, std::vector<int64_t>> last_count;  // by layer: by expert
    Rows rows;                                       // lately
    Told told;
  };

  ShardHoldings HoldingsOf(int member, const Membership& membership, absl::Time now) const;
  // Whether the shard that is the expert's home serves it.
  bool IsHomeLive(int expert, const Membership& membership) const;
  std::vector<LayerRows> RowsOfExperts() const;
  double MeasuredImbalance(const std::vector<int>& shards) const;

  const Options options_;
  std::map<int, Shard> shards_;  // by index in the membership
  bool has_moved_ = false;
  internal::BalanceView view_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_BALANCER_CORE_H_
