// A shard in a process of its own, for tests that kill it, stop it or break its NCCL.
//
//   shard_process ADDRESS [FAULT]...
//
// Prints "listening on ADDRESS", and "received" for each group of frames. Reads lines with faults, which replace the
// earlier ones: never_joins, stalls, async_error, version=22703; hold (frames are not answered); nothing
// (all is well). Ends with its standard input.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "tests/nccl/nccl_cluster.h"
#include "tests/nccl/stand_in.h"

namespace orrery {
namespace {

std::atomic<bool> hold = false;

void Misbehave(const std::string& line) {
  nccl_on_host::Faults faults;
  std::istringstream words(line);
  hold = false;
  for (std::string word; words >> word;) {
    if (word == "never_joins") faults.never_joins = true;
    if (word == "stalls") faults.stalls = true;
    if (word == "async_error") faults.async_error = ncclSystemError;
    if (word == "hold") hold = true;
    if (absl::StartsWith(word, "version=")) faults.version = std::atoi(word.c_str() + 8);
  }
  nccl_on_host::SetFaults(faults);
}

void Serve(ShardExchange& shard) {
  while (const std::optional<InboundGroup> group = shard.Receive(absl::InfiniteFuture())) {
    std::printf("received\n");
    std::fflush(stdout);
    if (hold) continue;
    for (const InboundFrame& frame : *group) Answer(shard, SmallRows(), frame);
  }
}

int Run(const std::string& address) {
  const std::unique_ptr<ChannelLayer> layer = MakeStandInLayer(QuickNccl());
  const std::unique_ptr<NcclShard> shard = NcclShard::Start(layer.get(), SmallRows(), address);
  if (shard == nullptr) return 1;
  std::printf("listening on %s\n", shard->address().c_str());
  std::fflush(stdout);
  std::thread serving([&] { Serve(shard->exchange()); });
  for (std::string line; std::getline(std::cin, line);) Misbehave(line);
  shard->exchange().Close();
  serving.join();
  return 0;
}

}  // namespace
}  // namespace orrery

int main(int argc, char** argv) {
  std::string faults;
  for (int i = 2; i < argc; ++i) faults += std::string(argv[i]) + " ";
  orrery::Misbehave(faults);
  return orrery::Run(argv[1]);
}
