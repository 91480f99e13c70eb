// What CUDA's C++ adds for kernels, so that a .cu.cc file is ordinary C++: qualifiers, the place of
// a thread in its grid, barriers, warp collectives, launches.
//
//   __global__ void Twice(float* x) { x[blockIdx.x * blockDim.x + threadIdx.x] *= 2; }
//
// How it runs: grid.h. Not here: the <<<>>> syntax (launch with cudaLaunchKernelEx), atomics, textures,
// partial masks. Blocks have whole warps. PTX instructions: ptx_on_host.h.
#ifndef ORRERY_TESTS_CUDA_INCLUDE_CUDA_RUNTIME_H_
#define ORRERY_TESTS_CUDA_INCLUDE_CUDA_RUNTIME_H_

#include <cuda_runtime_api.h>
#include <math.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
// Blocks run one after the other, so one copy will do. It is not cleared between them, as on a GPU.
#define __shared__ static

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
  unsigned x, y, z;
};

// Of the thread that runs now.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;

namespace cuda_on_host {

// Runs body once for each thread of a grid, in grid.cc.
void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
// The block's dynamic shared memory; every byte is 0xff when the block starts.
std::byte* DynamicSharedMemory();
// All threads of the block.
void MeetInBlock();

// All lanes of the warp, in the same operation: each leaves a value of at most kMaxLeft bytes, and
// reads what all left, 32 values kMaxLeft apart, until it meets the others again. `last`, where there
// is one, runs once in between.
inline constexpr int kWarpLanes = 32;
inline constexpr size_t kMaxLeft = 64;
std::byte* MeetInWarp(const char* operation, const void* left, size_t num_bytes,
                      void (*last)(std::byte* values) = nullptr);

// The lane of the warp that runs now.
int Lane();
void CheckFullMask(unsigned mask);

template <typename T>
T FromLane(const char* operation, unsigned mask, T value, int lane) {
  static_assert(sizeof(T) <= kMaxLeft);
  CheckFullMask(mask);
  const std::byte* const values = MeetInWarp(operation, &value, sizeof(value));
  std::memcpy(&value, values + (lane % kWarpLanes) * kMaxLeft, sizeof(value));
  return value;
}

}  // namespace cuda_on_host

inline void __syncthreads() { cuda_on_host::MeetInBlock(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  cuda_on_host::CheckFullMask(mask);
  cuda_on_host::MeetInWarp("__syncwarp", nullptr, 0);
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
  return cuda_on_host::FromLane("__shfl_sync", mask, value, lane);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  return cuda_on_host::FromLane("__shfl_xor_sync", mask, value, cuda_on_host::Lane() ^ lane_mask);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  cuda_on_host::CheckFullMask(mask);
  const std::byte* const values =
      cuda_on_host::MeetInWarp("__ballot_sync", &predicate, sizeof(predicate));
  unsigned ballot = 0;
  for (int lane = 0; lane < cuda_on_host::kWarpLanes; ++lane) {
    int of_lane;
    std::memcpy(&of_lane, values + lane * cuda_on_host::kMaxLeft, sizeof(of_lane));
    ballot |= (of_lane != 0 ? 1u : 0u) << lane;
  }
  return ballot;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace cuda_on_host {
// In streams.cc.
cudaError_t LaunchOnStream(const cudaLaunchConfig_t& config, const void* kernel,
                           const std::function<void()>& body);
cudaError_t AllowSharedMemory(const void* kernel, int num_bytes);
}  // namespace cuda_on_host

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return attribute == cudaFuncAttributeMaxDynamicSharedMemorySize
             ? cuda_on_host::AllowSharedMemory(reinterpret_cast<const void*>(kernel), value)
             : cudaErrorInvalidValue;
}

template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Args&&... args) {
  return cuda_on_host::LaunchOnStream(*config, reinterpret_cast<const void*>(kernel),
                                      [=] { kernel(static_cast<Params>(args)...); });
}

#endif  // ORRERY_TESTS_CUDA_INCLUDE_CUDA_RUNTIME_H_
