#include "tools/bench/kernels/kernel_meter.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"

namespace orrery {
namespace {

// Of a round's time, for each ceiling.
constexpr double kCeilingPart = 0.25;

}  // namespace

bool KernelMeter::Wants(const KernelCase& what) const {
  return absl::StrContains(what.name(), options_.filter);
}

absl::StatusOr<Buffer> KernelMeter::Allocate(size_t num_bytes) const {
  return target().device().Allocate(num_bytes, MemoryKind::kDevice);
}

absl::StatusOr<Buffer> KernelMeter::UploadBytes(const void* data, size_t num_bytes) const {
  ASSIGN_OR_RETURN(Buffer buffer, Allocate(num_bytes));
  target().stream().CopyToDevice(buffer.data(), data, num_bytes);
  RETURN_IF_ERROR(target().stream().Synchronize());
  return buffer;
}

int KernelMeter::NumCopies(double num_bytes) const {
  const double working_set = static_cast<double>(target().facts().working_set_bytes);
  return std::max(1, static_cast<int>(std::ceil(working_set / num_bytes)));
}

absl::StatusOr<std::unique_ptr<PeerProduct>> KernelMeter::MakePeer(PeerProduct::Shape shape) const {
  const double bytes_per_value = shape.operands == Operands::kFp8 ? 1.0 : 2.0;
  shape.num_copies = NumCopies(bytes_per_value * shape.num_inputs * shape.num_outputs);
  return target().MakePeer(shape);
}

absl::Status KernelMeter::Measure(const KernelCase& what, const Work& work,
                                  const Subject& subject) {
  subject.run();  // finds its scratch memory
  std::vector<KernelRound> rounds;
  for (int i = 0; i < options_.num_rounds; ++i) {
    ASSIGN_OR_RETURN(rounds.emplace_back(), MeasureRound(work, subject));
  }
  figures_.push_back(Summarize(what, work, rounds));
  if (options_.on_figures) options_.on_figures(figures_.back());
  return absl::OkStatus();
}

absl::StatusOr<KernelRound> KernelMeter::MeasureRound(const Work& work, const Subject& subject) {
  const absl::Duration enough = options_.min_time / options_.num_rounds;
  KernelRound round;
  ASSIGN_OR_RETURN(round.ceilings, target().MeasureCeilings(subject.operands, work.flops > 0.0,
                                                            enough * kCeilingPart));
  ASSIGN_OR_RETURN(round.seconds, target().SecondsPerCall(subject.run, enough));
  if (subject.run_peer) {
    ASSIGN_OR_RETURN(round.peer_seconds, TimeOfPeer(subject, enough));
  }
  return round;
}

absl::StatusOr<double> KernelMeter::TimeOfPeer(const Subject& subject, absl::Duration enough) {
  absl::Status status;
  const auto run = [&] { status.Update(subject.run_peer()); };
  ASSIGN_OR_RETURN(const double seconds, target().SecondsPerCall(run, enough));
  RETURN_IF_ERROR(status);
  return seconds;
}

}  // namespace orrery
