// What the conformance tests of the exchange share: ranks and shards over any transport, shards
// that answer, and work whose results can be checked. For tests only.
//
//   class ExchangeLossTest : public ExchangeTest {};
//   TEST_P(ExchangeLossTest, ...) {
//     const auto cluster = Make(/*num_ranks=*/1, /*num_shards=*/2, SmallRows());
//     ServingShard serving(cluster->shard(0), SmallRows());
//     Work work(SmallRows(), {.num_rows = 4, .topk = 2}, /*holders=*/{0, 1});
//     ...
//   }
//   INSTANTIATE_EXCHANGE_TEST(ExchangeLossTest);
#ifndef ORRERY_EXCHANGE_CONFORMANCE_H_
#define ORRERY_EXCHANGE_CONFORMANCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "exchange/exchange.h"
#include "exchange/plan.h"
#include "gtest/gtest.h"

namespace orrery {

// Ranks and shards that are connected; what a test needs of any transport.
class Cluster {
 public:
  virtual ~Cluster() = default;
  virtual RankExchange& rank(int rank) = 0;
  virtual ShardExchange& shard(int shard) = 0;
  virtual void KillShard(int shard) = 0;
  // False if it cannot come back, for reasons outside of the exchange.
  virtual bool ReviveShard(int shard) = 0;
};

struct ClusterSpec {
  int num_ranks = 1;
  int num_shards = 1;
  ExchangeOptions rank_options;
  ExchangeOptions shard_options;
};

// One way to make a cluster. Which ones there are says the library that a test is linked with beside
// this one: clusters.cc, or tests/nccl.
struct TransportToTest {
  const char* name;
  std::unique_ptr<Cluster> (*make)(const ClusterSpec& spec);
};
std::vector<TransportToTest> TransportsToTest();
inline std::ostream& operator<<(std::ostream& out, const TransportToTest& transport) {
  return out << transport.name;
}

// 20 bytes out, 36 back: odd sizes on purpose.
ExchangeOptions SmallRows();
// A deadline that only a broken exchange reaches.
absl::Time Far();

using StateOf = std::function<EntryState(int layer, int expert)>;

// Receives a group and leaves it to the test when to answer. Empty if none comes.
InboundGroup ReceiveGroup(ShardExchange& shard);
// The same, for a group that should be a single frame.
InboundFrame ReceiveOne(ShardExchange& shard);
void Answer(ShardExchange& shard, const ExchangeOptions& options, const InboundFrame& frame,
            const StateOf& state_of = nullptr, uint32_t eta_ms = 0);

// A shard's loop in a thread of its own, until the exchange is closed.
class ServingShard {
 public:
  ServingShard(ShardExchange& shard, const ExchangeOptions& options, StateOf state_of = nullptr,
               uint32_t eta_ms = 0);
  ~ServingShard() { Stop(); }
  // How many frames there were.
  int Stop();

 private:
  ShardExchange& shard_;
  int num_frames_ = 0;
  std::thread thread_;
};

// Random rows and choices, the plan for them, and the results that they must have.
struct Work {
  Work(const ExchangeOptions& options, RoutedShape shape, std::vector<int> holders, int seed = 1);
  // Whether exactly the results for which `done` holds are right, and all others untouched.
  void ExpectResults(int layer, const std::function<bool(int expert)>& done = nullptr) const;

  const ExchangeOptions options;
  const RoutedShape shape;
  const std::vector<int> holders;
  std::vector<std::byte> rows;
  std::vector<int32_t> expert_ids;
  DispatchPlan plan;
  std::vector<std::byte> results;
};

void ExpectAll(const CombineReport& report, size_t num_entries, EntryState state);

class ExchangeTest : public ::testing::TestWithParam<TransportToTest> {
 protected:
  static std::unique_ptr<Cluster> Make(const ClusterSpec& spec);
  static std::unique_ptr<Cluster> Make(int num_ranks, int num_shards,
                                       const ExchangeOptions& options) {
    return Make({num_ranks, num_shards, options, options});
  }
  // Dispatches; the test ends the ticket.
  static Ticket Dispatch(RankExchange& rank, const Work& work, int layer,
                         Lane lane = Lane::kDecode) {
    return rank.Dispatch(layer, lane, work.plan, work.rows).value();
  }
  // Combines; all must be well.
  static void ExpectDone(RankExchange& rank, Ticket ticket, Work& work, int layer);
  static void ExpectDone(RankExchange& rank, Work& work, int layer, Lane lane = Lane::kDecode) {
    ExpectDone(rank, Dispatch(rank, work, layer, lane), work, layer);
  }
};

#define INSTANTIATE_EXCHANGE_TEST(suite)                                               \
  INSTANTIATE_TEST_SUITE_P(Transports, suite, ::testing::ValuesIn(TransportsToTest()), \
                           [](const auto& info) { return std::string(info.param.name); })

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_CONFORMANCE_H_
