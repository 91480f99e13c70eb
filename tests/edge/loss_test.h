// A rank in the test's process and a shard in another one (shard_process.cc), which is killed with the object.
//
//   const ShardAddress address(kind);
//   ShardProcess shard(kind, address.text(), "hold");
//   shard.AwaitLine("received");  shard.Signal(SIGKILL);
//   ShardProcess again(kind, address.text());            // nobody else can have taken it
#ifndef ORRERY_TESTS_EDGE_LOSS_TEST_H_
#define ORRERY_TESTS_EDGE_LOSS_TEST_H_

#include <sys/types.h>

#include <string>
#include <string_view>

#include "tests/edge/edge_cluster.h"

namespace orrery {

// One that stays free between two shards. Of gRPC: a port that a socket is bound to which does not listen; so the
// system gives it to nobody, and SO_REUSEADDR, which servers set, lets one listen there. Of shared memory:
// a random name.
class ShardAddress {
 public:
  explicit ShardAddress(CarrierKind kind);
  ~ShardAddress();
  ShardAddress(const ShardAddress&) = delete;
  ShardAddress& operator=(const ShardAddress&) = delete;
  const std::string& text() const { return text_; }

 private:
  int socket_ = -1;
  std::string text_;
};

class ShardProcess {
 public:
  // Listens when it returns.
  ShardProcess(CarrierKind kind, const std::string& address, const std::string& faults = "");
  ~ShardProcess();
  ShardProcess(const ShardProcess&) = delete;
  ShardProcess& operator=(const ShardProcess&) = delete;
  // SIGSTOP: when it returns, the process stands still.
  void Signal(int signal);
  // As shard_process.cc says, from when it returns.
  void Misbehave(const std::string& faults);
  // The next line with these words in it; empty if none comes.
  std::string AwaitLine(std::string_view words);

 private:
  pid_t pid_ = 0;
  int in_ = -1, out_ = -1;
  std::string read_;
};

// A rank that reaches one shard process.
class LossTest : public ::testing::Test {
 protected:
  explicit LossTest(CarrierKind kind) : kind_(kind), address_(kind) {}
  ~LossTest() override { Misbehave(""); }

  void Start(const std::string& faults = "", const EdgeOptions& options = QuickEdges());
  void StartShard(const std::string& faults = "");
  Ticket Dispatch(const Work& work);
  // Its frame is lost long before this deadline, or never.
  void ExpectLost(Ticket ticket, Work& work);
  // A step through whatever carries rows now, which is expected to be this.
  void ExpectServedBy(std::string_view carrier);
  void ExpectServedByCarrier() { ExpectServedBy(CarrierName(kind_)); }
  void ExpectServedByBelow() { ExpectServedBy(BelowName(kind_)); }
  static Work FourRows() { return Work(SmallRows(), {4, 1}, {0, 0}); }

  const CarrierKind kind_;
  const ShardAddress address_;
  std::unique_ptr<ChannelLayer> layer_;
  std::unique_ptr<ShardProcess> shard_;
  std::unique_ptr<RankExchange> rank_;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_EDGE_LOSS_TEST_H_
