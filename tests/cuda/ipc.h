// How the stand-in shares memory between processes (cudaIpc*), and how to make it misbehave.
//
//   cuda_on_host::SetIpcFaults({.stalls = true});
//
// * A handle can be opened while the process that made it lives; what is open stays, whatever happens to that
//   process.
// * A process cannot open its own handles, as with CUDA, unless a test lets it, whose ranks and shards live
//   in one process.
//
// Threads: safe. Faults are the process's, and concern what it does from then on; `stalls` also copies that wait.
#ifndef ORRERY_TESTS_CUDA_IPC_H_
#define ORRERY_TESTS_CUDA_IPC_H_

namespace cuda_on_host {

struct IpcFaults {
  bool cannot_open = false;  // memory of other processes
  bool fails = false;        // copies into it are refused
  bool stalls = false;       // copies into it hold their stream
};
void SetIpcFaults(const IpcFaults& faults);
IpcFaults CurrentIpcFaults();

void LetProcessesOpenTheirOwn();

// Of other processes, that are open here.
int NumOpenMemories();

}  // namespace cuda_on_host

#endif  // ORRERY_TESTS_CUDA_IPC_H_
