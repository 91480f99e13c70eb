#include <nccl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/streams.h"
#include "tests/nccl/pair_sockets.h"
#include "tests/nccl/stand_in.h"

namespace nccl_on_host {
namespace {

std::mutex mutex;
Faults faults;              // guarded by mutex
int num_communicators = 0;  // guarded by mutex
std::atomic<int> num_hanging_aborts = 0;

Faults CurrentFaults() {
  const std::lock_guard lock(mutex);
  return faults;
}

// What the receiver says when it takes part.
struct Ready {
  uint64_t num_bytes = 0;
};

// Lives as long as somebody waits in it: a stream, or the thread that joins.
class Communicator : public std::enable_shared_from_this<Communicator> {
 public:
  Communicator(std::string name, int member)
      : name_(std::move(name)), member_(member), faults_(CurrentFaults()) {}

  int member() const { return member_; }
  void Join() {
    while (!aborted_ && (faults_.never_joins || !sockets_.Join(name_, member_))) {
      if (faults_.never_joins) Pause();
    }
    const std::lock_guard lock(mutex_);
    if (!aborted_) state_ = ncclSuccess;
  }
  ncclResult_t state() {
    const Faults now = CurrentFaults();
    const std::lock_guard lock(mutex_);
    return now.async_error != ncclSuccess ? now.async_error : state_;
  }
  void Abort() {
    const std::lock_guard lock(mutex_);
    aborted_ = true;
    changed_.notify_all();
  }
  // The place of an operation among those of its direction.
  uint64_t Issue(int direction) {
    const std::lock_guard lock(mutex_);
    return num_issued_[direction]++;
  }
  // On the stream before it returns; the first of a communicator a little later, because NCCL connects two
  // members when they first speak, and is in progress meanwhile.
  ncclResult_t Put(cudaStream_t stream, std::function<void()> operation) {
    const std::lock_guard lock(mutex_);
    if (has_spoken_) {
      cuda_on_host::RunOnStream(stream, std::move(operation));
      return ncclSuccess;
    }
    has_spoken_ = true;
    state_ = ncclInProgress;
    std::thread([self = shared_from_this(), stream, operation = std::move(operation)] {
      Pause();
      const std::lock_guard lock(self->mutex_);
      if (self->aborted_) return;  // the stream may be gone
      cuda_on_host::RunOnStream(stream, operation);
      self->state_ = ncclSuccess;
    }).detach();
    return ncclInProgress;
  }
  // Both hold the stream until it is done or aborted.
  void Send(uint64_t place, const void* data, size_t num_bytes) {
    if (!AwaitTurn(member_, place)) return;
    std::vector<char> bytes(num_bytes);
    {
      const orrery::DeviceMemory::Opened opened;
      std::memcpy(bytes.data(), data, num_bytes);
    }
    Ready ready;
    const bool moved = sockets_.Read(member_, &ready, sizeof(ready), stop_) &&
                       ready.num_bytes == num_bytes &&
                       sockets_.Write(member_, bytes.data(), num_bytes, stop_);
    EndTurn(member_, moved);
  }
  void Receive(uint64_t place, void* data, size_t num_bytes) {
    const int direction = 1 - member_;
    if (!AwaitTurn(direction, place)) return;
    std::vector<char> bytes(num_bytes);
    const Ready ready = {.num_bytes = num_bytes};
    const bool moved = sockets_.Write(direction, &ready, sizeof(ready), stop_) &&
                       sockets_.Read(direction, bytes.data(), num_bytes, stop_);
    if (moved) {
      const orrery::DeviceMemory::Opened opened;
      std::memcpy(data, bytes.data(), num_bytes);
    }
    EndTurn(direction, moved);
  }

 private:
  static void Pause() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }
  bool AwaitTurn(int direction, uint64_t place) {
    while (!aborted_ && CurrentFaults().stalls) Pause();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return aborted_ || num_done_[direction] == place; });
    return !aborted_;
  }
  void EndTurn(int direction, bool moved) {
    const bool shows = faults_.dead_peer == DeadPeer::kShows ||
                       (faults_.dead_peer == DeadPeer::kByChance && name_.back() % 2 == 0);
    std::unique_lock lock(mutex_);
    if (!moved) {
      if (!aborted_ && shows) state_ = ncclRemoteError;
      changed_.wait(lock, [&] { return aborted_.load(); });
    }
    ++num_done_[direction];
    changed_.notify_all();
  }

  const std::string name_;
  const int member_;
  const Faults faults_;
  PairSockets sockets_;
  std::atomic<bool> aborted_ = false;
  const std::function<bool()> stop_ = [this] { return aborted_ || CurrentFaults().stalls; };

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  ncclResult_t state_ = ncclInProgress;
  bool has_spoken_ = false;
  std::array<uint64_t, 2> num_issued_ = {};  // [the member that sends]
  std::array<uint64_t, 2> num_done_ = {};
};

}  // namespace

void SetFaults(const Faults& new_faults) {
  const std::lock_guard lock(mutex);
  faults = new_faults;
}

int NumHangingAborts() { return num_hanging_aborts; }

int NumCommunicators() {
  const std::lock_guard lock(mutex);
  return num_communicators;
}

}  // namespace nccl_on_host

struct ncclComm {
  std::shared_ptr<nccl_on_host::Communicator> communicator;
};

namespace {

using nccl_on_host::Communicator;

bool CanRun(ncclComm_t comm, int peer) {
  return peer == 1 - comm->communicator->member() && comm->communicator->state() == ncclSuccess;
}

}  // namespace

ncclResult_t ncclGetVersion(int* version) {
  *version = nccl_on_host::CurrentFaults().version;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::random_device random;
  *id = {};
  const std::lock_guard lock(nccl_on_host::mutex);
  std::snprintf(id->internal, sizeof(id->internal), "nccl-stand-in-%08x%08x%08x", random(),
                random(), random());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int num_members, ncclUniqueId id, int member,
                                    ncclConfig_t* config) {
  if (num_members != 2 || member < 0 || member > 1) return ncclInvalidArgument;
  if (config->blocking != 0) return ncclInvalidUsage;
  const std::string name(id.internal, strnlen(id.internal, sizeof(id.internal)));
  if (name.empty() || name.size() > 100) return ncclInvalidArgument;
  *comm = new ncclComm{std::make_shared<Communicator>(name, member)};
  {
    const std::lock_guard lock(nccl_on_host::mutex);
    ++nccl_on_host::num_communicators;
  }
  std::thread([communicator = (*comm)->communicator] { communicator->Join(); }).detach();
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = comm->communicator->state();
  return ncclSuccess;
}

ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (!CanRun(comm, peer)) return ncclInvalidUsage;
  const uint64_t place = comm->communicator->Issue(1 - peer);
  return comm->communicator->Put(stream, [communicator = comm->communicator, place, data, count] {
    communicator->Send(place, data, count);
  });
}

ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (!CanRun(comm, peer)) return ncclInvalidUsage;
  const uint64_t place = comm->communicator->Issue(peer);
  return comm->communicator->Put(stream, [communicator = comm->communicator, place, data, count] {
    communicator->Receive(place, data, count);
  });
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  ++nccl_on_host::num_hanging_aborts;
  while (nccl_on_host::CurrentFaults().abort_hangs) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  --nccl_on_host::num_hanging_aborts;
  comm->communicator->Abort();
  delete comm;
  const std::lock_guard lock(nccl_on_host::mutex);
  --nccl_on_host::num_communicators;
  return ncclSuccess;
}
