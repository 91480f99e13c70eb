// How a grid runs on the host: its blocks one after the other, the threads of a block as fibers that
// take turns. A thread runs until it waits (for its warp or its block) or ends; the last one to arrive lets
// the others go on. When nobody can run and not all have ended, somebody waits for a thread that
// will not come: undefined on a GPU, the end of the process here. Before that, what is on its way arrives.
//
// Denormals are flushed, as nvcc's -ftz=true has it.

#include "tests/cuda/grid.h"

#include <cuda_runtime.h>
#include <ptx_on_host.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/aligned_memory.h"
#include "base/check.h"
#include "base/dtypes.h"
#include "tests/cuda/fiber.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace cuda_on_host {
namespace {

using orrery::Fiber;

// A block that waits only for itself has a name for what it waits for.
constexpr const char* kRunning = nullptr;
constexpr const char* kEnded = "the end";
constexpr const char* kBarrier = "__syncthreads";

class ScopedFlushDenormals {
#if defined(__x86_64__)
 public:
  ScopedFlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 1u << 15 | 1u << 6); }
  ~ScopedFlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

struct Copy {
  std::byte* to;
  const std::byte* from;
  size_t num_bytes;
};

struct Thread {
  std::unique_ptr<Fiber> fiber;
  uint3 index;
  const char* waits_for = kEnded;
  const void* event = nullptr;                   // that somebody else will wake it for
  std::vector<Copy> copies = {};                 // not committed yet
  std::deque<std::vector<Copy>> committed = {};  // and not done, the oldest group first
};

struct Warp {
  int num_waiting = 0;  // for operation
  const char* operation = nullptr;
  // A lane may leave its next value while others still read the last ones, and no lane can be
  // further ahead: they lie in two sets, by turns.
  int turn = 0;
  alignas(64) std::byte values[2][kWarpLanes * kMaxLeft];
};

class Grid {
 public:
  void Run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
  void MeetInBlock();
  std::byte* MeetInWarp(const char* operation, const void* left, size_t num_bytes,
                        void (*last)(std::byte*));
  void WaitFor(const void* event, const char* what);
  void Wake(const void* event);
  int current() const { return current_; }
  Thread& thread() { return threads_[current_]; }
  int num_threads() const { return num_threads_; }
  std::byte* shared() const { return shared_.get(); }
  size_t shared_bytes() const { return shared_bytes_; }

 private:
  void RunBlock();
  [[noreturn]] void RunThreads(int thread);  // the life of a fiber, block after block
  // Lets others run until this thread may. It has said what it waits for.
  void Wait();
  void Continue(int thread);
  int NextRunnable() const;  // num_threads_: none
  bool SomebodyWaits() const;
  [[noreturn]] void FailOutOfStep() const;

  std::mutex mutex_;
  Fiber main_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  int num_threads_ = 0;
  int current_ = 0;
  int num_at_barrier_ = 0;
  const std::function<void()>* body_ = nullptr;
  orrery::AlignedArray<std::byte> shared_;
  size_t shared_bytes_ = 0;
};

Grid& TheGrid() {
  static auto& grid = *new Grid;
  return grid;
}

void Grid::Run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  const std::lock_guard lock(mutex_);
  const ScopedFlushDenormals flush;
  num_threads_ = static_cast<int>(block.x * block.y * block.z);
  ORRERY_CHECK(num_threads_ % kWarpLanes == 0) << "a block of " << num_threads_ << " threads";
  while (static_cast<int>(threads_.size()) < num_threads_) {
    const int thread = static_cast<int>(threads_.size());
    threads_.push_back({std::make_unique<Fiber>([this, thread] { RunThreads(thread); }), {}});
  }
  warps_.resize(std::max<size_t>(warps_.size(), num_threads_ / kWarpLanes));
  shared_ = orrery::TryAllocateAligned<std::byte>(shared_bytes + 1, 1024);
  shared_bytes_ = shared_bytes;
  body_ = &body;
  blockDim = block;
  gridDim = grid;
  for (int i = 0; i < num_threads_; ++i) {
    threads_[i].index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
  }
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        RunBlock();
      }
    }
  }
}

void Grid::RunBlock() {
  std::fill_n(shared_.get(), shared_bytes_, std::byte{0xff});
  for (int i = 0; i < num_threads_; ++i) {
    threads_[i].waits_for = kRunning;
    threads_[i].event = nullptr;
    threads_[i].copies.clear();
    threads_[i].committed.clear();
  }
  BeginBarriers();
  BeginWarpgroups();
  current_ = 0;
  threadIdx = threads_[0].index;
  Fiber::Switch(main_, *threads_[0].fiber);
  EndWarpgroups();
  EndBarriers();
}

void Grid::RunThreads(int thread) {
  for (;;) {
    (*body_)();
    threads_[thread].waits_for = kEnded;
    Wait();
  }
}

void Grid::Wait() {
  const int self = current_;
  int next = NextRunnable();
  while (next == num_threads_ && SomebodyWaits() && ArriveLate()) next = NextRunnable();
  if (next == self) return;
  if (next < num_threads_) {
    Continue(next);
    return;
  }
  if (SomebodyWaits()) FailOutOfStep();
  Fiber::Switch(*threads_[self].fiber, main_);
}

void Grid::Continue(int thread) {
  const int self = current_;
  current_ = thread;
  threadIdx = threads_[thread].index;
  Fiber::Switch(*threads_[self].fiber, *threads_[thread].fiber);
}

// The next lane of the warp, then the next warp.
int Grid::NextRunnable() const {
  const int warp_begin = current_ / kWarpLanes * kWarpLanes;
  for (int i = 1; i <= kWarpLanes; ++i) {
    const int thread = warp_begin + (current_ + i) % kWarpLanes;
    if (threads_[thread].waits_for == kRunning) return thread;
  }
  int thread = 0;
  while (thread < num_threads_ && threads_[thread].waits_for != kRunning) ++thread;
  return thread;
}

bool Grid::SomebodyWaits() const {
  for (int i = 0; i < num_threads_; ++i) {
    if (threads_[i].waits_for != kEnded) return true;
  }
  return false;
}

void Grid::FailOutOfStep() const {
  std::string who;
  for (int i = 0; i < num_threads_; ++i) {
    const char* const waits_for = threads_[i].waits_for;
    if (i > 0 && waits_for == threads_[i - 1].waits_for) continue;
    who += " from thread " + std::to_string(i) + ": " + waits_for + ";";
  }
  ORRERY_CHECK(false) << "block (" << blockIdx.x << ", " << blockIdx.y << ", " << blockIdx.z
                      << "): threads wait for others that will not come:" << who;
  std::abort();
}

void Grid::MeetInBlock() {
  if (++num_at_barrier_ < num_threads_) {
    threads_[current_].waits_for = kBarrier;
    Wait();
    return;
  }
  num_at_barrier_ = 0;
  for (int i = 0; i < num_threads_; ++i) threads_[i].waits_for = kRunning;
}

std::byte* Grid::MeetInWarp(const char* operation, const void* left, size_t num_bytes,
                            void (*last)(std::byte*)) {
  const int lane = current_ % kWarpLanes;
  Warp& warp = warps_[current_ / kWarpLanes];
  if (warp.num_waiting == 0) warp.operation = operation;
  ORRERY_CHECK(std::strcmp(warp.operation, operation) == 0)
      << "block (" << blockIdx.x << ", " << blockIdx.y << ", " << blockIdx.z << "), thread "
      << current_ << " is in " << operation << " while its warp is in " << warp.operation;
  std::byte* const values = warp.values[warp.turn];
  if (num_bytes > 0) std::memcpy(values + lane * kMaxLeft, left, num_bytes);
  if (++warp.num_waiting < kWarpLanes) {
    threads_[current_].waits_for = operation;
    Wait();
    return values;
  }
  if (last != nullptr) last(values);
  warp.num_waiting = 0;
  warp.turn ^= 1;
  const int begin = current_ - lane;
  for (int i = begin; i < begin + kWarpLanes; ++i) threads_[i].waits_for = kRunning;
  return values;
}

void Grid::WaitFor(const void* event, const char* what) {
  threads_[current_].event = event;
  threads_[current_].waits_for = what;
  Wait();
}

void Grid::Wake(const void* event) {
  for (int i = 0; i < num_threads_; ++i) {
    if (threads_[i].event != event) continue;
    threads_[i].event = nullptr;
    threads_[i].waits_for = kRunning;
  }
}

}  // namespace

int CurrentThread() { return TheGrid().current(); }
int NumThreads() { return TheGrid().num_threads(); }
size_t SharedBytes() { return TheGrid().shared_bytes(); }
std::string WhoRuns() {
  return "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
         std::to_string(blockIdx.z) + "), thread " + std::to_string(CurrentThread());
}
void WaitFor(const void* event, const char* what) { TheGrid().WaitFor(event, what); }
void Wake(const void* event) { TheGrid().Wake(event); }

bool Meeting::Arrive(const char* what, int num_threads) {
  if (num_here_ == 0) {
    what_ = what;
    num_expected_ = num_threads;
  }
  ORRERY_CHECK(std::strcmp(what_, what) == 0 && num_expected_ == num_threads)
      << WhoRuns() << " is in " << what << " of " << num_threads << " threads while others are in "
      << what_ << " of " << num_expected_;
  if (++num_here_ == num_threads) return true;
  TheGrid().WaitFor(this, what);
  return false;
}

void Meeting::Leave() {
  num_here_ = 0;
  Wake(this);
}

void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  TheGrid().Run(grid, block, shared_bytes, body);
}
std::byte* DynamicSharedMemory() { return TheGrid().shared(); }
void MeetInBlock() { TheGrid().MeetInBlock(); }
std::byte* MeetInWarp(const char* operation, const void* left, size_t num_bytes,
                      void (*last)(std::byte*)) {
  return TheGrid().MeetInWarp(operation, left, num_bytes, last);
}
int Lane() { return TheGrid().current() % kWarpLanes; }
void CheckFullMask(unsigned mask) {
  ORRERY_CHECK(mask == 0xffffffffu) << "mask " << mask << ": only whole warps meet here";
}

void MultiplyInWarp(std::byte* operands) {
  const auto of_lane = [&](int lane) {
    return reinterpret_cast<MmaOperands*>(operands + lane * kMaxLeft);
  };
  float a[16][16], b[16][8], c[16][8];
  const auto unpack = [](uint32_t two, float& low, float& high) {
    low = orrery::Bf16ToF32(static_cast<uint16_t>(two));
    high = orrery::Bf16ToF32(static_cast<uint16_t>(two >> 16));
  };
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const MmaOperands& mine = *of_lane(lane);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
      unpack(mine.a[i], a[row][column], a[row][column + 1]);
    }
    for (int i = 0; i < 2; ++i) {
      unpack(mine.b[i], b[2 * t + 8 * i][g], b[2 * t + 8 * i + 1][g]);
    }
    for (int i = 0; i < 4; ++i) c[g + i / 2 * 8][2 * t + i % 2] = mine.c[i];
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) of_lane(lane)->c[i] = c[g + i / 2 * 8][2 * t + i % 2];
  }
}

namespace {

// Element j of row i of matrix m is at rows[8 m + i][j]; lane 4 g + t gets two of each matrix.
void LoadInWarp(std::byte* rows, bool transposed) {
  uint16_t elements[kWarpLanes][8];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const std::byte* const row = reinterpret_cast<MatrixRows*>(rows + lane * kMaxLeft)->row;
    ORRERY_CHECK(reinterpret_cast<uintptr_t>(row) % 16 == 0) << "lane " << lane << " of ldmatrix";
    std::memcpy(elements[lane], row, sizeof(elements[lane]));
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    auto& loaded = reinterpret_cast<MatrixRows*>(rows + lane * kMaxLeft)->loaded;
    for (int m = 0; m < 4; ++m) {
      const auto element = [&](int i) -> uint32_t {
        return transposed ? elements[8 * m + i][g] : elements[8 * m + g][i];
      };
      loaded[m] = element(2 * t) | element(2 * t + 1) << 16;
    }
  }
}

}  // namespace

void LoadInWarp(std::byte* rows) { LoadInWarp(rows, /*transposed=*/false); }
void LoadTransposedInWarp(std::byte* rows) { LoadInWarp(rows, /*transposed=*/true); }

void CopyLater(std::byte* to, const std::byte* from, size_t num_bytes) {
  ORRERY_CHECK(reinterpret_cast<uintptr_t>(to) % num_bytes == 0 &&
               reinterpret_cast<uintptr_t>(from) % num_bytes == 0)
      << "cp.async of " << num_bytes << " bytes";
  TheGrid().thread().copies.push_back({to, from, num_bytes});
}
void CommitCopies() {
  Thread& thread = TheGrid().thread();
  thread.committed.push_back(std::move(thread.copies));
  thread.copies.clear();
}
void WaitForCopies(size_t num_left) {
  auto& committed = TheGrid().thread().committed;
  for (; committed.size() > num_left; committed.pop_front()) {
    for (const Copy& copy : committed.front()) std::memcpy(copy.to, copy.from, copy.num_bytes);
  }
}

}  // namespace cuda_on_host
