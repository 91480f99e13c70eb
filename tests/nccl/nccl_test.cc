// The stand-in for NCCL: it moves bytes, and it hangs where NCCL hangs.

#include <gtest/gtest.h>
#include <nccl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "tests/nccl/stand_in.h"

namespace orrery {
namespace {

using Clock = std::chrono::steady_clock;

// False if it did not come about before a deadline that only a broken stand-in reaches.
bool Await(const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + std::chrono::minutes(1);
  while (!condition() && Clock::now() < deadline) std::this_thread::yield();
  return condition();
}

ncclResult_t StateOf(ncclComm_t comm) {
  ncclResult_t state;
  EXPECT_EQ(ncclCommGetAsyncError(comm, &state), ncclSuccess);
  return state;
}

ncclComm_t Start(const ncclUniqueId& id, int member) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, id, member, &config), ncclInProgress);
  return comm;
}

ncclUniqueId NewId() {
  ncclUniqueId id;
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  return id;
}

// Both ends of a communicator within this process.
struct Pair {
  Pair() {
    const ncclUniqueId id = NewId();
    for (int member : {0, 1}) comms[member] = Start(id, member);
    for (ncclComm_t comm : comms) {
      EXPECT_TRUE(Await([comm] { return StateOf(comm) == ncclSuccess; }));
    }
  }
  ~Pair() { Abort(); }
  void Abort() {
    for (ncclComm_t& comm : comms) {
      if (comm != nullptr) ncclCommAbort(comm);
      comm = nullptr;
    }
  }
  ncclComm_t comms[2] = {};
};

class Nccl : public testing::Test {
 protected:
  static constexpr size_t kBytes = 1 << 20;
  Nccl() {
    nccl_on_host::SetFaults({});
    for (cudaStream_t& stream : streams_) cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    for (void*& data : device_) cudaMalloc(&data, kBytes);
  }
  ~Nccl() override {
    nccl_on_host::SetFaults({});
    for (cudaStream_t stream : streams_) {
      EXPECT_TRUE(IsIdle(stream));
      cudaStreamDestroy(stream);
    }
    for (void* data : device_) cudaFree(data);
    EXPECT_EQ(nccl_on_host::NumCommunicators(), 0);
  }
  static bool IsIdle(cudaStream_t stream) {
    return Await([stream] { return cudaStreamQuery(stream) == cudaSuccess; });
  }
  void Send(Pair& pair, size_t num_bytes, cudaStream_t stream) {
    const ncclResult_t result =
        ncclSend(device_[0], num_bytes, ncclUint8, 1, pair.comms[0], stream);
    EXPECT_TRUE(result == ncclSuccess || result == ncclInProgress);
    EXPECT_TRUE(Await([&] { return StateOf(pair.comms[0]) == ncclSuccess; }));
  }
  void Receive(Pair& pair, size_t num_bytes, cudaStream_t stream) {
    const ncclResult_t result =
        ncclRecv(device_[1], num_bytes, ncclUint8, 0, pair.comms[1], stream);
    EXPECT_TRUE(result == ncclSuccess || result == ncclInProgress);
    EXPECT_TRUE(Await([&] { return StateOf(pair.comms[1]) == ncclSuccess; }));
  }

  cudaStream_t streams_[4] = {};
  void* device_[2] = {};
};

TEST_F(Nccl, MovesBytesInOrder) {
  Pair pair;
  std::vector<char> bytes(kBytes);
  for (size_t i = 0; i < kBytes; ++i) bytes[i] = static_cast<char>(i * 7 + i / 1000);
  std::vector<char> received(kBytes);
  for (const size_t num_bytes : {size_t{1}, size_t{4096}, kBytes}) {
    cudaMemcpyAsync(device_[0], bytes.data(), num_bytes, cudaMemcpyDefault, streams_[0]);
    Receive(pair, num_bytes, streams_[1]);
    cudaMemcpyAsync(received.data(), device_[1], num_bytes, cudaMemcpyDefault, streams_[1]);
    Send(pair, num_bytes, streams_[0]);
    ASSERT_TRUE(IsIdle(streams_[0]) && IsIdle(streams_[1]));
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.begin() + num_bytes, received.begin()));
  }
}

TEST_F(Nccl, IsInProgressUntilBothHaveCome) {
  const ncclUniqueId id = NewId();
  ncclComm_t first = Start(id, 0);
  EXPECT_EQ(StateOf(first), ncclInProgress);
  EXPECT_EQ(ncclSend(device_[0], 1, ncclUint8, 1, first, streams_[0]), ncclInvalidUsage);
  ncclComm_t second = Start(id, 1);
  EXPECT_TRUE(Await([&] { return StateOf(first) == ncclSuccess; }));
  EXPECT_TRUE(Await([&] { return StateOf(second) == ncclSuccess; }));
  ncclCommAbort(first);
  ncclCommAbort(second);
}

TEST_F(Nccl, HoldsTheStreamUntilThePeerTakesPart) {
  Pair pair;
  Send(pair, 16, streams_[0]);
  cudaEvent_t sent;
  cudaEventCreateWithFlags(&sent, cudaEventDisableTiming);
  cudaEventRecord(sent, streams_[0]);
  EXPECT_EQ(cudaEventQuery(sent), cudaErrorNotReady);
  Receive(pair, 16, streams_[1]);
  EXPECT_TRUE(Await([&] { return cudaEventQuery(sent) == cudaSuccess; }));
  cudaEventDestroy(sent);
}

// The known deadlock: two communicators, a stream each of two members, and opposite orders.
// Whatever is unfinished after all four were issued stays so, as each waits for one behind another:
// nothing but an abort changes that.
TEST_F(Nccl, DeadlocksWhenOneStreamCarriesTwoCommunicatorsInOppositeOrders) {
  Pair a, b;
  Send(a, 16, streams_[0]);
  Send(b, 16, streams_[0]);
  Receive(b, 16, streams_[1]);
  Receive(a, 16, streams_[1]);
  const auto end = Clock::now() + std::chrono::milliseconds(200);
  while (Clock::now() < end) {
    ASSERT_EQ(cudaStreamQuery(streams_[0]), cudaErrorNotReady);
    ASSERT_EQ(cudaStreamQuery(streams_[1]), cudaErrorNotReady);
    std::this_thread::yield();
  }
  for (const Pair* pair : {&a, &b}) {
    for (ncclComm_t comm : pair->comms)
      EXPECT_EQ(StateOf(comm), ncclSuccess);  // and nobody says so
  }
  a.Abort();
  b.Abort();
}

TEST_F(Nccl, DoesNotDeadlockWithAStreamForEachCommunicator) {
  Pair a, b;
  Send(a, 16, streams_[0]);
  Send(b, 16, streams_[1]);
  Receive(b, 16, streams_[2]);
  Receive(a, 16, streams_[3]);
  for (cudaStream_t stream : streams_) EXPECT_TRUE(IsIdle(stream));
}

// A member that is killed; its end of the sockets closes with it.
class NcclDeath : public Nccl {
 protected:
  void LoseThePeer() {
    const ncclUniqueId id = NewId();
    const pid_t child = fork();
    if (child == 0) {
      ncclComm_t comm = Start(id, 0);
      while (StateOf(comm) == ncclInProgress) std::this_thread::yield();
      pause();
      _exit(0);
    }
    comm_ = Start(id, 1);
    ASSERT_TRUE(Await([&] { return StateOf(comm_) == ncclSuccess; }));
    ASSERT_EQ(ncclRecv(device_[1], 16, ncclUint8, 0, comm_, streams_[1]), ncclInProgress);
    ASSERT_TRUE(Await([&] { return StateOf(comm_) == ncclSuccess; }));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  ncclComm_t comm_ = nullptr;
};

TEST_F(NcclDeath, ShowsADeadPeerSometimes) {
  nccl_on_host::SetFaults({.dead_peer = nccl_on_host::DeadPeer::kShows});
  LoseThePeer();
  EXPECT_TRUE(Await([&] { return StateOf(comm_) == ncclRemoteError; }));
  EXPECT_EQ(cudaStreamQuery(streams_[1]), cudaErrorNotReady);
  ncclCommAbort(comm_);
}

TEST_F(NcclDeath, HangsOnADeadPeerOtherwise) {
  nccl_on_host::SetFaults({.dead_peer = nccl_on_host::DeadPeer::kStaysHidden});
  LoseThePeer();
  const auto end = Clock::now() + std::chrono::milliseconds(50);
  while (Clock::now() < end) {
    ASSERT_EQ(StateOf(comm_), ncclSuccess);
    ASSERT_EQ(cudaStreamQuery(streams_[1]), cudaErrorNotReady);
  }
  ncclCommAbort(comm_);
}

TEST_F(Nccl, FailsAndStallsOnCommand) {
  Pair pair;
  nccl_on_host::SetFaults({.stalls = true});
  Send(pair, 16, streams_[0]);
  Receive(pair, 16, streams_[1]);
  EXPECT_EQ(cudaStreamQuery(streams_[1]), cudaErrorNotReady);
  nccl_on_host::SetFaults({.async_error = ncclSystemError});
  EXPECT_EQ(StateOf(pair.comms[0]), ncclSystemError);
  nccl_on_host::SetFaults({.never_joins = true});
  ncclComm_t never = Start(NewId(), 0);
  EXPECT_EQ(StateOf(never), ncclInProgress);
  ncclCommAbort(never);
}

}  // namespace
}  // namespace orrery
