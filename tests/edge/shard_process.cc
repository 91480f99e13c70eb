// A shard in a process of its own, for tests that kill it, stop it or break its carrier.
//
//   shard_process nccl|cuda_ipc ADDRESS FAULTS
//
// Prints "listening on ADDRESS", and "received" for each group of frames. Reads lines with faults, which replace the
// earlier ones: those of Misbehave (edge_cluster.h); hold (frames are not answered); nothing (all is well). Answers
// each with "took the faults".
// Ends with its standard input.

#include <atomic>
#include <cstdio>
#include <iostream>
#include <thread>

#include "absl/strings/match.h"
#include "tests/edge/edge_cluster.h"

namespace orrery {
namespace {

std::atomic<bool> hold = false;

void TakeFaults(const std::string& faults) {
  hold = absl::StrContains(faults, "hold");
  Misbehave(faults);
}

void Serve(ShardExchange& shard) {
  while (const std::optional<InboundGroup> group = shard.Receive(absl::InfiniteFuture())) {
    std::printf("received\n");
    std::fflush(stdout);
    if (hold) continue;
    for (const InboundFrame& frame : *group) Answer(shard, SmallRows(), frame);
  }
}

int Run(CarrierKind kind, const std::string& address) {
  const std::unique_ptr<ChannelLayer> layer = MakeLayer(kind, QuickEdges()).value();
  const std::unique_ptr<EdgeShard> shard =
      EdgeShard::Start(kind, layer.get(), SmallRows(), address);
  if (shard == nullptr) return 1;
  std::printf("listening on %s\n", shard->address().c_str());
  std::fflush(stdout);
  std::thread serving([&] { Serve(shard->exchange()); });
  for (std::string line; std::getline(std::cin, line);) {
    TakeFaults(line);
    std::printf("took the faults\n");
    std::fflush(stdout);
  }
  shard->exchange().Close();
  serving.join();
  return 0;
}

}  // namespace
}  // namespace orrery

int main(int, char** argv) {
  orrery::TakeFaults(argv[3]);
  const bool is_nccl = std::string_view(argv[1]) == "nccl";
  return orrery::Run(is_nccl ? orrery::CarrierKind::kNccl : orrery::CarrierKind::kCudaIpc, argv[2]);
}
