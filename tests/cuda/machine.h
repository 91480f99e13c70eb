// What the stand-in claims to be; tests change it and put it back.
//
//   const ScopedMachine machine({.num_devices = 0});
//   EXPECT_EQ(MakeCudaDevice(0).status().code(), absl::StatusCode::kUnavailable);
//
// All devices share one memory. Threads: changed while no other uses the runtime.
#ifndef ORRERY_TESTS_CUDA_MACHINE_H_
#define ORRERY_TESTS_CUDA_MACHINE_H_

#include <cstddef>

namespace cuda_on_host {

struct Machine {
  int num_devices = 1;
  // Of its compute capability.
  int major = 8;
  int minor = 0;
  // That a block of threads may ask for: as much as every GPU from sm_80 on has (99 KiB on sm_86).
  size_t shared_bytes = size_t{99} << 10;
  // The kernels' code is compiled for; 0: for others, of which the GPU runs none.
  int code_architecture = 90;
  int driver_version = 13000;  // 0: no driver is installed
  size_t memory_bytes =
      size_t{8} << 30;  // that allocations may take; at most DeviceMemory's addresses
};

inline constexpr int kRuntimeVersion = 13000;

inline constexpr Machine kSm80 = {};
inline constexpr Machine kSm90 = {.major = 9, .minor = 0, .shared_bytes = size_t{227} << 10};

Machine& TheMachine();

class ScopedMachine {
 public:
  explicit ScopedMachine(const Machine& machine) : before_(TheMachine()) { TheMachine() = machine; }
  ~ScopedMachine() { TheMachine() = before_; }
  ScopedMachine(const ScopedMachine&) = delete;
  ScopedMachine& operator=(const ScopedMachine&) = delete;

 private:
  const Machine before_;
};

}  // namespace cuda_on_host

#endif  // ORRERY_TESTS_CUDA_MACHINE_H_
