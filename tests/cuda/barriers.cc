// Models of mbarrier, bulk copies and named barriers (PTX ISA 9.0, 9.7.13.15, 9.7.9.25, 9.7.13.1).

#include <ptx_sm90_on_host.h>

#include <cstring>
#include <vector>

#include "base/check.h"
#include "tests/cuda/grid.h"

namespace cuda_on_host {
namespace {

using orrery::ptx::Barrier;

// What a GPU keeps in the 64 bits is its own affair. Shared memory that no barrier was made in is all ones.
struct State {
  uint16_t num_threads;
  uint16_t num_missing : 15;
  uint16_t parity : 1;
  int32_t missing_bytes;  // may be negative for a while: bytes that came before they were expected
};
static_assert(sizeof(State) == sizeof(Barrier));

State Load(const Barrier& barrier) {
  State state;
  std::memcpy(&state, &barrier, sizeof(state));
  ORRERY_CHECK(state.num_threads != 0xffff && state.num_threads != 0)
      << WhoRuns() << " uses an mbarrier that nobody has made";
  return state;
}

void Store(const State& state, Barrier& barrier) { std::memcpy(&barrier, &state, sizeof(state)); }

// Ends the phase if nothing is missing.
void Settle(State state, Barrier& barrier) {
  const bool ends = state.num_missing == 0 && state.missing_bytes == 0;
  if (ends) {
    state.parity ^= 1;
    state.num_missing = state.num_threads;
  }
  Store(state, barrier);
  if (ends) Wake(&barrier);
}

struct BulkCopy {
  std::byte* to;
  const std::byte* from;
  int num_bytes;
  Barrier* barrier;
};
std::vector<BulkCopy> copies;
constexpr int kNumNamedBarriers = 16;
Meeting named_barriers[kNumNamedBarriers];

bool IsShared(const void* data, int num_bytes) {
  const auto* const at = static_cast<const std::byte*>(data);
  return at >= DynamicSharedMemory() && at + num_bytes <= DynamicSharedMemory() + SharedBytes();
}

}  // namespace

uint32_t SharedAddress(const void* shared) {
  ORRERY_CHECK(IsShared(shared, 0)) << WhoRuns() << ": not in dynamic shared memory";
  return static_cast<uint32_t>(static_cast<const std::byte*>(shared) - DynamicSharedMemory()) +
         kReservedShared;
}

void MakeBarrier(Barrier& barrier, int num_threads) {
  ORRERY_CHECK(num_threads > 0 && num_threads < 1 << 15) << num_threads << " threads";
  Store({static_cast<uint16_t>(num_threads), static_cast<uint16_t>(num_threads), 0, 0}, barrier);
}

void ArriveAt(Barrier& barrier, int num_bytes) {
  State state = Load(barrier);
  ORRERY_CHECK(state.num_missing > 0) << WhoRuns() << " arrives once too often";
  --state.num_missing;
  state.missing_bytes += num_bytes;
  Settle(state, barrier);
}

void AwaitParity(Barrier& barrier, uint32_t parity) {
  ORRERY_CHECK(parity <= 1) << "parity " << parity;
  while (Load(barrier).parity == parity) WaitFor(&barrier, "an mbarrier");
}

void CopyBulk(std::byte* to, const std::byte* from, int num_bytes, Barrier& barrier) {
  ORRERY_CHECK(num_bytes > 0 && num_bytes % 16 == 0 && SharedAddress(to) % 16 == 0 &&
               reinterpret_cast<uintptr_t>(from) % 16 == 0 && IsShared(to, num_bytes))
      << WhoRuns() << ": cp.async.bulk of " << num_bytes << " bytes to shared address "
      << SharedAddress(to);
  copies.push_back({to, from, num_bytes, &barrier});
}

bool ArriveLate() {
  if (copies.empty()) return false;
  const BulkCopy copy = copies.back();
  copies.pop_back();
  std::memcpy(copy.to, copy.from, copy.num_bytes);
  State state = Load(*copy.barrier);
  state.missing_bytes -= copy.num_bytes;
  Settle(state, *copy.barrier);
  return true;
}

void MeetAt(int barrier, int num_threads) {
  ORRERY_CHECK(barrier > 0 && barrier < kNumNamedBarriers && num_threads % kWarpLanes == 0)
      << "barrier " << barrier << ", " << num_threads << " threads";
  named_barriers[barrier].Meet("bar.sync", num_threads);
}

void BeginBarriers() {
  for (Meeting& barrier : named_barriers) barrier = {};
}

void EndBarriers() {
  ORRERY_CHECK(copies.empty()) << "a block ends while " << copies.size()
                               << " bulk copies are on their way";
}

}  // namespace cuda_on_host
