// How the stand-in for NCCL behaves, and how to make it misbehave.
//
//   nccl_on_host::SetFaults({.never_joins = true});
//
// * Members find each other by the unique id, in threads or in processes of one host. Joining ends when
//   both have come; until then, and for ever if one never comes, the communicator is in progress.
// * The first operation of a communicator is not on its stream when the call returns, but once the
//   communicator is no longer in progress: an event recorded before that means nothing.
// * A send or receive starts when its stream comes to it, in the order in which its communicator was
//   given them, and holds its stream until the peer's counterpart has taken part, or until abort. Two
//   communicators on one stream each, issued in opposite orders by two members, so wait for ever.
// * A peer that dies, or a count that does not match: the operation holds its stream until abort;
//   whether ncclCommGetAsyncError shows ncclRemoteError is left to chance, as seen with NCCL.
// * Sends do not run ahead of their receives; NCCL's small ones may, which only makes it more forgiving.
//
// Threads: safe. Faults are the process's, and concern communicators and operations from then on;
// `stalls`, `async_error` and `abort_hangs` also those there are.
#ifndef ORRERY_TESTS_NCCL_STAND_IN_H_
#define ORRERY_TESTS_NCCL_STAND_IN_H_

#include <nccl.h>

namespace nccl_on_host {

enum class DeadPeer { kByChance, kShows, kStaysHidden };

inline constexpr int kVersion = 22809;

struct Faults {
  int version = kVersion;
  bool never_joins = false;                // communicators stay in progress
  bool stalls = false;                     // no operation starts, and those under way never end
  ncclResult_t async_error = ncclSuccess;  // of every communicator
  bool abort_hangs = false;                // ncclCommAbort does not return
  DeadPeer dead_peer = DeadPeer::kByChance;
};
void SetFaults(const Faults& faults);

// Communicators that were made and not aborted.
int NumCommunicators();
// Calls of ncclCommAbort under way.
int NumHangingAborts();

}  // namespace nccl_on_host

#endif  // ORRERY_TESTS_NCCL_STAND_IN_H_
