// What exchange/nccl takes for granted of NCCL, on a GPU. NCCL refuses two members on one GPU, so the communicator
// has one, which sends to itself; that needs a group, and so does not go through NcclMover.

#include <nccl.h>

#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "device/cuda/cuda_device.h"
#include "device/cuda/cuda_line.h"
#include "exchange/edge/slots.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

bool Await(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (!condition() && absl::Now() < deadline) std::this_thread::yield();
  return condition();
}

ncclResult_t StateOf(ncclComm_t comm) {
  ncclResult_t state = ncclInternalError;
  EXPECT_EQ(ncclCommGetAsyncError(comm, &state), ncclSuccess);
  return state;
}

TEST(GpuNccl, ANonBlockingCommunicatorOfOneSendsToItself) {
  const absl::StatusOr<std::unique_ptr<Device>> device = MakeCudaDevice(0);
  if (!device.ok()) GTEST_SKIP() << device.status();
  const auto pool = SlotPool::Make(device->get(), {.num_slots = 2}).value();
  const Slots slots = SlotPool::Take(pool, 2).value();
  for (size_t i = 0; i < kSlotBytes; ++i)
    slots[0].host[i] = static_cast<std::byte>(i * 7 + i / 256);
  CudaLine line(/*device_index=*/0, /*num_marks=*/1);
  ASSERT_TRUE(line.Open().ok());

  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.minCTAs = 1;
  config.maxCTAs = 1;
  ncclComm_t comm = nullptr;
  const ncclResult_t begun = ncclCommInitRankConfig(&comm, 1, id, 0, &config);
  ASSERT_TRUE(begun == ncclSuccess || begun == ncclInProgress) << begun;
  ASSERT_TRUE(Await([comm] { return StateOf(comm) == ncclSuccess; }));

  for (const size_t num_bytes : {size_t{6}, size_t{7408}, kSlotBytes}) {
    std::memset(slots[1].host, 0, kSlotBytes);
    ASSERT_TRUE(line.Copy(slots[0].device, slots[0].host, num_bytes).ok());
    ncclGroupStart();
    ncclSend(slots[0].device, num_bytes, ncclUint8, 0, comm, line.handle());
    ncclRecv(slots[1].device, num_bytes, ncclUint8, 0, comm, line.handle());
    const ncclResult_t ended = ncclGroupEnd();
    ASSERT_TRUE(ended == ncclSuccess || ended == ncclInProgress) << ended;
    ASSERT_TRUE(Await([comm] { return StateOf(comm) == ncclSuccess; }));
    ASSERT_TRUE(line.Copy(slots[1].host, slots[1].device, num_bytes).ok());
    ASSERT_TRUE(line.Mark(0).ok());
    ASSERT_TRUE(Await([&line] { return line.IsReached(0).value(); }));
    EXPECT_EQ(std::memcmp(slots[0].host, slots[1].host, num_bytes), 0) << num_bytes;
  }
  EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
}

}  // namespace
}  // namespace orrery
