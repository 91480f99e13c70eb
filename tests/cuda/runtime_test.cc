// The runtime of the stand-in: its device memory is closed to the host, and launches have CUDA's limits.

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <vector>

namespace orrery {
namespace {

__global__ void Fill(float* to, float value) { to[blockIdx.x * blockDim.x + threadIdx.x] = value; }

cudaError_t LaunchFill(dim3 grid, dim3 block, size_t shared_bytes, float* to) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  return cudaLaunchKernelEx(&config, Fill, to, 3.0f);
}

TEST(Runtime, KernelsWriteMemoryThatCopiesRead) {
  void* data = nullptr;
  ASSERT_EQ(cudaMalloc(&data, 128 * sizeof(float)), cudaSuccess);
  ASSERT_EQ(LaunchFill(2, 64, 0, static_cast<float*>(data)), cudaSuccess);
  std::vector<float> values(128);
  cudaMemcpyAsync(values.data(), data, 128 * sizeof(float), cudaMemcpyDefault, nullptr);
  EXPECT_EQ(values, std::vector<float>(128, 3.0f));
  EXPECT_EQ(cudaFree(data), cudaSuccess);
  EXPECT_EQ(cudaFree(data), cudaErrorInvalidValue);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(RuntimeDeathTest, HostCodeMustNotTouchDeviceMemory) {
  void* data = nullptr;
  ASSERT_EQ(cudaMalloc(&data, 4), cudaSuccess);
  EXPECT_DEATH(*static_cast<volatile int*>(data) = 1, "");
  EXPECT_DEATH(static_cast<void>(*static_cast<volatile int*>(data)), "");
  cudaFree(data);
}

TEST(Runtime, RefusesLaunchesThatNoGpuTakes) {
  EXPECT_EQ(LaunchFill(0, 32, 0, nullptr), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LaunchFill({1, 65536, 1}, 32, 0, nullptr), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LaunchFill(1, 2048, 0, nullptr), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LaunchFill(1, 32, 60 << 10, nullptr), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaFuncSetAttribute(Fill, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 20),
            cudaErrorInvalidValue);
}

TEST(Runtime, GivesMoreSharedMemoryWhenAskedBefore) {
  void* data = nullptr;
  ASSERT_EQ(cudaMalloc(&data, 32 * sizeof(float)), cudaSuccess);
  ASSERT_EQ(cudaFuncSetAttribute(Fill, cudaFuncAttributeMaxDynamicSharedMemorySize, 60 << 10),
            cudaSuccess);
  EXPECT_EQ(LaunchFill(1, 32, 60 << 10, static_cast<float*>(data)), cudaSuccess);
  cudaFree(data);
}

}  // namespace
}  // namespace orrery
