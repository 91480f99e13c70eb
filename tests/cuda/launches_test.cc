// How kernels/cuda goes about its work: no memory of the device is allocated once a call has seen its
// sizes, work of one call may still wait while the next is staged, errors surface in Synchronize().

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "device/cuda/cuda_device.h"
#include "kernels/cuda/make_cuda_kernels.h"
#include "tests/cuda/device_memory.h"
#include "tests/cuda/machine.h"

namespace orrery {
namespace {

class Launches : public testing::Test {
 protected:
  // A matrix on the device.
  Matrix Make(int64_t num_rows, int64_t num_cols) {
    buffers_.push_back(
        *device_->Allocate(num_rows * num_cols * sizeof(float), MemoryKind::kDevice));
    return Matrix(buffers_.back().as<float>(), num_rows, num_cols);
  }

  std::unique_ptr<Device> device_ = *MakeCudaDevice(0);
  std::unique_ptr<Stream> stream_ = device_->MakeStream();
  std::unique_ptr<Kernels> kernels_ = *MakeCudaKernels(stream_.get());
  std::vector<Buffer> buffers_;
};

TEST_F(Launches, NameTheirFamily) {
  EXPECT_EQ(kernels_->family(), "cuda-mma-1-sm80");
  EXPECT_EQ(kernels_->variant(), "sm80");
}

TEST(LaunchesOnSm90, NameAFamilyOfTheirOwn) {
  cuda_on_host::TheMachine() = cuda_on_host::kSm90;
  std::unique_ptr<Device> device = *MakeCudaDevice(0);
  std::unique_ptr<Stream> stream = device->MakeStream();
  const std::unique_ptr<Kernels> kernels = *MakeCudaKernels(stream.get());
  EXPECT_EQ(kernels->family(), "cuda-wgmma-1-sm90");
  EXPECT_EQ(kernels->variant(), "sm90");
  cuda_on_host::TheMachine() = cuda_on_host::kSm80;
}

// What was made for one order of codes is refused by the other.
TEST(LaunchesOnSm90, RefuseFp8ProductsOfOtherGpus) {
  const std::vector<uint8_t> codes(128 * 128, 0x38);
  const float scale = 1.0f;
  const WeightSource source = {.dtype = DType::kFp8E4m3,
                               .data = codes.data(),
                               .num_outputs = 128,
                               .num_inputs = 128,
                               .scales = &scale,
                               .scale_block_outputs = 128,
                               .scale_block_inputs = 128};
  struct Made {
    std::unique_ptr<Device> device = *MakeCudaDevice(0);
    std::unique_ptr<Stream> stream = device->MakeStream();
    std::unique_ptr<Kernels> kernels = *MakeCudaKernels(stream.get());
  };
  const Made sm80;
  cuda_on_host::TheMachine() = cuda_on_host::kSm90;
  const Made sm90;
  cuda_on_host::TheMachine() = cuda_on_host::kSm80;
  for (const auto& [from, to] : {std::pair(&sm80, &sm90), std::pair(&sm90, &sm80)}) {
    const auto weight = *from->kernels->MakeWeight(source, ProductFormat::kFp8);
    EXPECT_TRUE(from->kernels->MapWeight(*weight->Image()).ok());
    const absl::Status status = to->kernels->MapWeight(*weight->Image()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
}

TEST_F(Launches, AllocateNothingOnceTheyHaveSeenTheirSizes) {
  const std::vector<float> values(64 * 96, 0.5f);
  const WeightSource source = {
      .dtype = DType::kF32, .data = values.data(), .num_outputs = 64, .num_inputs = 96};
  const WeightSource back = {
      .dtype = DType::kF32, .data = values.data(), .num_outputs = 96, .num_inputs = 64};
  const auto gate = *kernels_->MakeWeight(source, ProductFormat::kBf16);
  const auto down = *kernels_->MakeWeight(back, ProductFormat::kBf16);
  const Matrix x = Make(40, 96), inner = Make(40, 64), out = Make(40, 96);
  const std::vector<FeedForwardArgs> all = {
      {x.Rows(0, 3), gate.get(), gate.get(), down.get(), out.Rows(0, 3)},
      {x.Rows(3, 37), gate.get(), gate.get(), down.get(), out.Rows(3, 37)}};
  const Matrix cache_rows = Make(1, 8 * 64 * 32);
  const KvCacheView cache = {DType::kF32, reinterpret_cast<std::byte*>(cache_rows.data), 8, 32};
  const std::vector<int32_t> block_ids = {3, 1, 2}, ids(40, 0);
  const Matrix q = Make(1, 64), attended = Make(1, 64), kv = Make(130, 32);
  int64_t num_before = 0;
  for (int round = 0; round < 300; ++round) {
    kernels_->Embed(DType::kF32, x.data, ids, out);
    kernels_->FeedForward(all);
    kernels_->Matmul(x, *gate, nullptr, inner);
    kernels_->AppendKv(kv, cache, block_ids, 0);
    AttendArgs args;
    args.q = q;
    args.num_heads = 2;
    args.key_dim = 32;
    args.value_dim = 32;
    args.cache = cache;
    args.block_ids = block_ids;
    args.first_position = 129;
    args.out = attended;
    kernels_->Attend(args);
    if (round == 0) num_before = DeviceMemory::The().num_allocations();
  }
  EXPECT_EQ(DeviceMemory::The().num_allocations(), num_before);
  EXPECT_TRUE(stream_->Synchronize().ok());
}

// From the first row that sees more than one span on.
TEST_F(Launches, AllocateOnceForAContextThatGrows) {
  constexpr int kNumBlocks = 40;
  const Matrix cache_rows = Make(kNumBlocks * kKvBlockTokens, 32);
  const KvCacheView cache = {DType::kF32, reinterpret_cast<std::byte*>(cache_rows.data), kNumBlocks,
                             32};
  std::vector<int32_t> block_ids;
  for (int i = 0; i < kNumBlocks; ++i) block_ids.push_back(i);
  const Matrix q = Make(3, 32), out = Make(3, 32);
  int64_t num_before = 0;
  for (const int position : {1100, 1700, 2200, 2500}) {
    kernels_->Attend({.q = q,
                      .num_heads = 1,
                      .key_dim = 32,
                      .value_dim = 32,
                      .cache = cache,
                      .block_ids = block_ids,
                      .first_position = position,
                      .out = out});
    if (position == 1100) num_before = DeviceMemory::The().num_allocations();
  }
  EXPECT_EQ(DeviceMemory::The().num_allocations(), num_before);
  EXPECT_TRUE(stream_->Synchronize().ok());
}

// More heads times dims than shared memory holds.
TEST_F(Launches, ReportWhatCouldNotBeLaunched) {
  constexpr int kDim = 4096;
  const Matrix q = Make(1, kDim), out = Make(1, kDim), rows = Make(64, kDim);
  AttendArgs args;
  args.q = q;
  args.num_heads = 1;
  args.key_dim = kDim;
  args.value_dim = kDim;
  args.cache = {DType::kF32, reinterpret_cast<std::byte*>(rows.data), 1, kDim};
  const std::vector<int32_t> block_ids = {0};
  args.block_ids = block_ids;
  args.out = out;
  kernels_->Attend(args);
  EXPECT_EQ(stream_->Synchronize().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(stream_->Synchronize().ok());
}

TEST_F(Launches, RefuseAStreamOfAnotherDevice) {
  EXPECT_EQ(MakeCudaKernels(nullptr).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(Launches, RefuseAGpuThatIsTooOld) {
  const cuda_on_host::ScopedMachine machine({.major = 7, .minor = 5});
  const absl::Status status = MakeCudaKernels(stream_.get()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::string(status.message()),
            "cuda:0 stand-in on the host is sm75: the cuda kernels need sm80 or later");
}

TEST_F(Launches, RefuseAGpuThatTheProgramWasNotBuiltFor) {
  cuda_on_host::Machine machine = cuda_on_host::kSm80;
  machine.code_architecture = 0;
  {
    const cuda_on_host::ScopedMachine scoped(machine);
    const absl::Status status = MakeCudaKernels(stream_.get()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(std::string(status.message()),
              "cuda:0 stand-in on the host is sm80: the cuda kernels need code for sm80, this "
              "program has none (cudaErrorNoKernelImageForDevice): build it for this GPU "
              "(third_party/cuda/cuda.bzl)");
  }
  // PTX of sm_80 would run there, but its wgmma kernels do nothing.
  machine = cuda_on_host::kSm90;
  machine.code_architecture = 80;
  const cuda_on_host::ScopedMachine scoped(machine);
  const absl::Status status = MakeCudaKernels(stream_.get()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::string(status.message()),
            "cuda:0 stand-in on the host is sm90: the cuda kernels need code for sm90, this "
            "program has code for sm80: build it for this GPU (third_party/cuda/cuda.bzl)");
}

}  // namespace
}  // namespace orrery
