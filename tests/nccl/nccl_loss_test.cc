// What only NCCL can get wrong: peers that die, stop, never join or have another version, and operations
// that fail or never end. Whatever happens, nothing hangs, gRPC carries the rows meanwhile, and the edge forms again.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "device/cuda/cuda_device.h"
#include "gtest/gtest.h"
#include "tests/nccl/nccl_cluster.h"
#include "tests/nccl/stand_in.h"

extern char** environ;

namespace orrery {
namespace {

// shard_process, killed with the object.
class ShardProcess {
 public:
  explicit ShardProcess(const std::string& address, const std::string& fault = "") {
    int to[2], from[2];
    EXPECT_EQ(pipe2(to, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(from, O_CLOEXEC), 0);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, to[0], 0);
    posix_spawn_file_actions_adddup2(&files, from[1], 1);
    posix_spawn_file_actions_adddup2(&files, from[1], 2);
    std::string program = "tests/nccl/shard_process", its_address = address, its_fault = fault;
    std::vector<char*> arguments = {program.data(), its_address.data(), its_fault.data(), nullptr};
    EXPECT_EQ(posix_spawn(&pid_, program.c_str(), &files, nullptr, arguments.data(), environ), 0);
    posix_spawn_file_actions_destroy(&files);
    close(to[0]);
    close(from[1]);
    in_ = to[1];
    out_ = from[0];
    constexpr std::string_view kListening = "listening on ";
    const std::string line = AwaitLine(kListening);
    if (!line.empty()) address_ = line.substr(kListening.size());
  }
  ~ShardProcess() {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(in_);
    close(out_);
  }
  const std::string& address() const { return address_; }
  void Signal(int signal) { kill(pid_, signal); }
  void Misbehave(const std::string& faults) {
    const std::string line = faults + "\n";
    EXPECT_EQ(write(in_, line.data(), line.size()), static_cast<ssize_t>(line.size()));
  }
  // The next line with these words in it; empty if none comes.
  std::string AwaitLine(std::string_view words) {
    const absl::Time deadline = Far();
    while (absl::Now() < deadline) {
      const size_t end = read_.find('\n');
      if (end != std::string::npos) {
        const std::string line = read_.substr(0, end);
        read_.erase(0, end + 1);
        if (line.find(words) != std::string::npos) return line;
        continue;
      }
      pollfd ready = {.fd = out_, .events = POLLIN, .revents = 0};
      char bytes[4096];
      if (poll(&ready, 1, 1000) <= 0) continue;
      const ssize_t n = read(out_, bytes, sizeof(bytes));
      if (n <= 0) break;
      read_.append(bytes, static_cast<size_t>(n));
    }
    return "";
  }

 private:
  pid_t pid_ = 0;
  int in_ = -1, out_ = -1;
  std::string read_;
  std::string address_;
};

class NcclLoss : public testing::Test {
 protected:
  ~NcclLoss() override { nccl_on_host::SetFaults({}); }

  void Start(const std::string& fault = "") {
    shard_ = std::make_unique<ShardProcess>("127.0.0.1:0", fault);
    ASSERT_NE(shard_->address(), "");
    rank_ = MakeNcclRank(layer_.get(), SmallRows(), "rank", {shard_->address()});
    ASSERT_TRUE(rank_->AwaitConnected(0, Far()));
  }
  Ticket Dispatch(const Work& work) {
    return rank_->Dispatch(1, Lane::kDecode, work.plan, work.rows).value();
  }
  // Its frame is lost long before this deadline, or never.
  void ExpectLost(Ticket ticket, Work& work) {
    ExpectAll(rank_->Combine(ticket, Far(), absl::MakeSpan(work.results)), 4, EntryState::kLost);
  }
  void ExpectServedBy(std::string_view carrier) {
    ASSERT_TRUE(rank_->AwaitConnected(0, Far()));
    ASSERT_TRUE(AwaitCarrier(*rank_, 0, carrier)) << carrier;
    Work work = FourRows();
    EXPECT_TRUE(rank_->Combine(Dispatch(work), Far(), absl::MakeSpan(work.results)).empty());
    work.ExpectResults(1);
  }
  static Work FourRows() { return Work(SmallRows(), {4, 1}, {0, 0}); }

  const std::unique_ptr<ChannelLayer> layer_ = MakeStandInLayer(QuickNccl());
  std::unique_ptr<ShardProcess> shard_;
  std::unique_ptr<RankExchange> rank_;
};

TEST_F(NcclLoss, APeerThatIsKilledInMidStepLosesItsFramesAndIsReachedAgain) {
  Start("hold");
  ASSERT_TRUE(AwaitCarrier(*rank_, 0, "nccl"));
  Work work = FourRows();
  const Ticket ticket = Dispatch(work);
  ASSERT_NE(shard_->AwaitLine("received"), "");
  shard_->Signal(SIGKILL);
  ExpectLost(ticket, work);
  shard_ = std::make_unique<ShardProcess>(shard_->address());
  if (shard_->address().empty()) GTEST_SKIP() << "somebody else took the port";
  ExpectServedBy("nccl");
}

// Its sockets stay open and take what is sent: only the rows that never leave tell.
TEST_F(NcclLoss, APeerThatStandsStillLosesItsFramesAndIsReachedAgainWhenItGoesOn) {
  Start();
  ExpectServedBy("nccl");
  shard_->Signal(SIGSTOP);
  Work work = FourRows();
  ExpectLost(Dispatch(work), work);
  EXPECT_FALSE(rank_->connected(0));
  shard_->Signal(SIGCONT);
  ExpectServedBy("nccl");
}

TEST_F(NcclLoss, GrpcCarriesTheRowsWhileAPeerNeverJoins) {
  Start("never_joins");
  ASSERT_NE(shard_->AwaitLine("no NCCL to a rank (decode) for now"), "");
  ExpectServedBy("grpc");
  shard_->Misbehave("");
  ExpectServedBy("nccl");
}

TEST_F(NcclLoss, GrpcCarriesTheRowsBetweenTwoVersionsAndBothAreNamed) {
  Start("version=22703");
  ASSERT_NE(shard_->AwaitLine("the shard has NCCL 2.27.3, the rank NCCL 2.28.9"), "");
  ExpectServedBy("grpc");
  const std::string address = shard_->address();
  shard_ = nullptr;
  shard_ = std::make_unique<ShardProcess>(address);
  if (shard_->address().empty()) GTEST_SKIP() << "somebody else took the port";
  ExpectServedBy("nccl");
}

TEST_F(NcclLoss, AnAsynchronousErrorAtTheShardBreaksTheEdgeUntilItIsGone) {
  Start("hold");
  ASSERT_TRUE(AwaitCarrier(*rank_, 0, "nccl"));
  Work work = FourRows();
  const Ticket ticket = Dispatch(work);
  ASSERT_NE(shard_->AwaitLine("received"), "");
  shard_->Misbehave("async_error");
  ExpectLost(ticket, work);
  ExpectServedBy("grpc");
  shard_->Misbehave("");
  ExpectServedBy("nccl");
}

TEST_F(NcclLoss, AnAsynchronousErrorAtTheRankBreaksTheEdgeUntilItIsGone) {
  Start("hold");
  ASSERT_TRUE(AwaitCarrier(*rank_, 0, "nccl"));
  Work work = FourRows();
  const Ticket ticket = Dispatch(work);
  ASSERT_NE(shard_->AwaitLine("received"), "");
  nccl_on_host::SetFaults({.async_error = ncclRemoteError});
  ExpectLost(ticket, work);
  shard_->Misbehave("");
  ExpectServedBy("grpc");
  nccl_on_host::SetFaults({});
  ExpectServedBy("nccl");
}

TEST_F(NcclLoss, AnOperationThatNeverEndsIsGivenUp) {
  Start();
  ExpectServedBy("nccl");
  nccl_on_host::SetFaults({.stalls = true});
  Work work = FourRows();
  ExpectLost(Dispatch(work), work);
  ExpectServedBy("grpc");
  nccl_on_host::SetFaults({});
  ExpectServedBy("nccl");
}

// Of two lanes, only one finds memory.
TEST(NcclLayer, ConnectionsBeyondTheLimitStayOnTheChannelBelow) {
  NcclOptions options = QuickNccl();
  options.max_edges = 1;
  NcclCluster cluster({1, 1, SmallRows(), SmallRows()}, options);
  ASSERT_TRUE(cluster.rank(0).AwaitConnected(0, Far()));
  ServingShard serving(cluster.shard(0), SmallRows());
  for (int i = 0; i < 20; ++i) {
    for (const Lane lane : {Lane::kDecode, Lane::kBulk}) {
      Work work(SmallRows(), {4, 1}, {0, 0});
      const Ticket ticket = cluster.rank(0).Dispatch(i, lane, work.plan, work.rows).value();
      EXPECT_TRUE(cluster.rank(0).Combine(ticket, Far(), absl::MakeSpan(work.results)).empty());
      work.ExpectResults(i);
    }
  }
}

// The second frame is small and goes whole; it is at the shard long before the rows of the first.
TEST(NcclLayer, AWholeFrameDoesNotOvertakeTheRowsOfTheOneBefore) {
  NcclOptions options = QuickNccl();
  options.min_row_bytes = 2 * SmallRows().row_bytes;
  options.operation_timeout = absl::Seconds(60);
  NcclCluster cluster({1, 1, SmallRows(), SmallRows()}, options);
  RankExchange& rank = cluster.rank(0);
  ASSERT_TRUE(AwaitCarrier(rank, 0, "nccl"));
  nccl_on_host::SetFaults({.stalls = true});
  Work large(SmallRows(), {4, 1}, {0, 0}), small(SmallRows(), {1, 1}, {0, 0});
  const Ticket first = rank.Dispatch(1, Lane::kDecode, large.plan, large.rows).value();
  const Ticket second = rank.Dispatch(2, Lane::kDecode, small.plan, small.rows).value();
  EXPECT_FALSE(cluster.shard(0).Await(absl::Now() + absl::Milliseconds(50)));
  nccl_on_host::SetFaults({});
  for (const int layer : {1, 2}) {
    const InboundFrame frame = ReceiveOne(cluster.shard(0));
    EXPECT_EQ(frame.layer, layer);
    Answer(cluster.shard(0), SmallRows(), frame);
  }
  EXPECT_TRUE(rank.Combine(first, Far(), absl::MakeSpan(large.results)).empty());
  EXPECT_TRUE(rank.Combine(second, Far(), absl::MakeSpan(small.results)).empty());
}

TEST(NcclLayer, LeavesNoCommunicatorBehind) {
  {
    NcclCluster cluster({2, 2, SmallRows(), SmallRows()}, QuickNccl());
    for (int rank : {0, 1}) {
      for (int shard : {0, 1}) EXPECT_TRUE(AwaitCarrier(cluster.rank(rank), shard, "nccl"));
    }
    EXPECT_GE(nccl_on_host::NumCommunicators(), 16);
  }
  EXPECT_EQ(nccl_on_host::NumCommunicators(), 0);
}

TEST(NcclLayer, RefusesOptionsThatMakeNoSense) {
  const auto code = [](NcclOptions options) {
    return MakeNcclLayer(options, MakeCudaDevice(0).value()).status().code();
  };
  EXPECT_EQ(code({.max_edges = 0}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.operation_timeout = absl::ZeroDuration()}), absl::StatusCode::kInvalidArgument);
  // 8 slots for each edge: more than any device has.
  EXPECT_EQ(code({.max_edges = 1 << 20}), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace orrery
