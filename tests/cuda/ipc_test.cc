// The stand-in between two processes: memory of one that the other writes into, and events that say when.

#include "tests/cuda/ipc.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

bool Await(const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + std::chrono::minutes(1);
  while (!condition() && Clock::now() < deadline) std::this_thread::yield();
  return condition();
}

// What parent and child tell each other.
struct Board {
  cudaIpcMemHandle_t memory;
  cudaIpcEventHandle_t event;
  std::atomic<int> stage;
  bool Reaches(int n) {
    return Await([this, n] { return stage >= n; });
  }
};

class Ipc : public testing::Test {
 protected:
  static constexpr size_t kBytes = 10'000;
  Ipc()
      : board_(*static_cast<Board*>(mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE,
                                         MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~Ipc() override {
    cuda_on_host::SetIpcFaults({});
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
    munmap(&board_, sizeof(Board));
  }
  // The child lives until it is killed.
  void StartChild(const std::function<void()>& body) {
    child_ = fork();
    if (child_ > 0) return;
    body();
    while (true) pause();
  }

  Board& board_;
  pid_t child_ = -1;
};

TEST_F(Ipc, OneProcessWritesIntoTheOther) {
  StartChild([this] {
    void* data;
    cudaMalloc(&data, 100);  // so that the next begins within a page
    cudaMalloc(&data, kBytes);
    cudaEvent_t ignored;
    cudaEventCreateWithFlags(&ignored, cudaEventDisableTiming | cudaEventInterprocess);
    cudaIpcGetMemHandle(&board_.memory, data);
    board_.stage = 1;
    if (!board_.Reaches(2)) _exit(1);
    cudaEvent_t event;
    cudaIpcOpenEventHandle(&event, board_.event);
    if (!Await([event] { return cudaEventQuery(event) == cudaSuccess; })) _exit(2);
    std::vector<char> bytes(kBytes);
    cudaMemcpyAsync(bytes.data(), data, kBytes, cudaMemcpyDefault, nullptr);
    for (size_t i = 0; i < kBytes; ++i) {
      if (bytes[i] != static_cast<char>(i * 7)) _exit(3);
    }
    board_.stage = 3;
  });
  ASSERT_TRUE(board_.Reaches(1));
  void* theirs = nullptr;
  ASSERT_EQ(cudaIpcOpenMemHandle(&theirs, board_.memory, cudaIpcMemLazyEnablePeerAccess),
            cudaSuccess);
  void* again = nullptr;
  ASSERT_EQ(cudaIpcOpenMemHandle(&again, board_.memory, cudaIpcMemLazyEnablePeerAccess),
            cudaSuccess);
  EXPECT_EQ(again, theirs);
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaEvent_t event;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventInterprocess),
            cudaSuccess);
  ASSERT_EQ(cudaIpcGetEventHandle(&board_.event, event), cudaSuccess);
  std::vector<char> bytes(kBytes);
  for (size_t i = 0; i < kBytes; ++i) bytes[i] = static_cast<char>(i * 7);
  // Held up, so that the event shows that it is not over.
  cuda_on_host::SetIpcFaults({.stalls = true});
  cudaMemcpyAsync(theirs, bytes.data(), kBytes, cudaMemcpyDefault, stream);
  cudaEventRecord(event, stream);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  board_.stage = 2;
  cuda_on_host::SetIpcFaults({});
  EXPECT_TRUE(board_.Reaches(3));
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(cudaIpcCloseMemHandle(theirs), cudaSuccess);
  EXPECT_EQ(cuda_on_host::NumOpenMemories(), 1);
  EXPECT_EQ(cudaIpcCloseMemHandle(theirs), cudaSuccess);
  EXPECT_EQ(cudaIpcCloseMemHandle(theirs), cudaErrorInvalidValue);
  cudaStreamDestroy(stream);
  cudaEventDestroy(event);
}

// What is open stays, and nothing new can be opened.
TEST_F(Ipc, OutlivesTheProcessThatSharedIt) {
  StartChild([this] {
    void* data;
    cudaMalloc(&data, kBytes);
    cudaIpcGetMemHandle(&board_.memory, data);
    board_.stage = 1;
  });
  ASSERT_TRUE(board_.Reaches(1));
  void* theirs = nullptr;
  ASSERT_EQ(cudaIpcOpenMemHandle(&theirs, board_.memory, cudaIpcMemLazyEnablePeerAccess),
            cudaSuccess);
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
  child_ = -1;
  std::vector<char> bytes(kBytes);
  EXPECT_EQ(cudaMemcpyAsync(theirs, bytes.data(), kBytes, cudaMemcpyDefault, nullptr), cudaSuccess);
  EXPECT_EQ(cudaIpcCloseMemHandle(theirs), cudaSuccess);
  EXPECT_EQ(cudaIpcOpenMemHandle(&theirs, board_.memory, cudaIpcMemLazyEnablePeerAccess),
            cudaErrorMapBufferObjectFailed);
}

TEST_F(Ipc, RefusesWhatCudaRefusesAndFailsOnCommand) {
  StartChild([this] {
    void* data;
    cudaMalloc(&data, kBytes);
    cudaIpcGetMemHandle(&board_.memory, data);
    board_.stage = 1;
  });
  ASSERT_TRUE(board_.Reaches(1));
  void* data;
  cudaMalloc(&data, kBytes);
  cudaIpcMemHandle_t own;
  ASSERT_EQ(cudaIpcGetMemHandle(&own, data), cudaSuccess);
  EXPECT_EQ(cudaIpcGetMemHandle(&own, static_cast<char*>(data) + 512), cudaErrorInvalidValue);
  void* opened = nullptr;
  EXPECT_EQ(cudaIpcOpenMemHandle(&opened, own, cudaIpcMemLazyEnablePeerAccess),
            cudaErrorDeviceUninitialized);
  cudaEvent_t event;
  EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventInterprocess), cudaErrorInvalidValue);

  cuda_on_host::SetIpcFaults({.cannot_open = true});
  EXPECT_EQ(cudaIpcOpenMemHandle(&opened, board_.memory, cudaIpcMemLazyEnablePeerAccess),
            cudaErrorMapBufferObjectFailed);
  cuda_on_host::SetIpcFaults({.fails = true});
  ASSERT_EQ(cudaIpcOpenMemHandle(&opened, board_.memory, cudaIpcMemLazyEnablePeerAccess),
            cudaSuccess);
  char byte = 0;
  EXPECT_EQ(cudaMemcpyAsync(opened, &byte, 1, cudaMemcpyDefault, nullptr), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaIpcCloseMemHandle(opened), cudaSuccess);
  cudaFree(data);
}

}  // namespace
