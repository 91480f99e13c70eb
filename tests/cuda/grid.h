// What models of instructions need of the grid (grid.cc) beyond include/cuda_runtime.h: threads that wait for each
// other, and for things that happen by themselves.
//
//   cuda_on_host::Meeting meeting;                         // of the block
//   meeting.Meet("wgmma.fence", 128, [] { ... });          // the last of 128 threads runs it, and all go on
//
// Threads: those of the block that runs, which take turns.
#ifndef ORRERY_TESTS_CUDA_GRID_H_
#define ORRERY_TESTS_CUDA_GRID_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <string>

namespace cuda_on_host {

inline constexpr int kWarpgroupThreads = 4 * kWarpLanes;

int CurrentThread();  // counted within the block
int NumThreads();
size_t SharedBytes();
// "block (0, 0, 0), thread 17", for messages.
std::string WhoRuns();

// The thread that runs waits, for something with a name, until another wakes whoever waits for this event.
void WaitFor(const void* event, const char* what);
void Wake(const void* event);

class Meeting {
 public:
  template <typename Last>
  void Meet(const char* what, int num_threads, Last last) {
    if (!Arrive(what, num_threads)) return;
    last();
    Leave();
  }
  void Meet(const char* what, int num_threads) {
    Meet(what, num_threads, [] {});
  }

 private:
  bool Arrive(const char* what, int num_threads);  // whether as the last; waits if not
  void Leave();

  int num_here_ = 0;
  int num_expected_ = 0;
  const char* what_ = nullptr;
};

// When all threads wait: one of the bulk copies under way arrives. Whether there was one. In barriers.cc.
bool ArriveLate();

// Before and after a block. Nothing may be under way when it ends.
void BeginBarriers();
void EndBarriers();
void BeginWarpgroups();
void EndWarpgroups();

}  // namespace cuda_on_host

#endif  // ORRERY_TESTS_CUDA_GRID_H_
