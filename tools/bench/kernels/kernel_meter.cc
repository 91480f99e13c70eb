#include "tools/bench/kernels/kernel_meter.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "tools/bench/kernels/synthetic.h"

namespace orrery {
namespace {

// OpenMP's threads spin for some milliseconds when their work is done, and would take the cores from whoever
// is measured next.
constexpr absl::Duration kPeerSettles = absl::Milliseconds(10);

// Of a round's time, for each ceiling.
constexpr double kCeilingPart = 0.25;

}  // namespace

bool KernelMeter::Wants(const KernelCase& what) const {
  return absl::StrContains(what.name(), options_.filter);
}

int KernelMeter::NumCopies(double num_bytes) const {
  return std::max(
      1, static_cast<int>(std::ceil(static_cast<double>(options_.working_set_bytes) / num_bytes)));
}

absl::StatusOr<std::unique_ptr<OneDnnMatmul>> KernelMeter::MakePeer(OneDnnMatmul::Options options) {
  const size_t num_weights = static_cast<size_t>(options.num_outputs) * options.num_inputs;
  options.num_copies = NumCopies(num_weights * sizeof(uint16_t));
  options.num_threads = options_.num_threads;
  ASSIGN_OR_RETURN(
      std::unique_ptr<OneDnnMatmul> peer,
      OneDnnMatmul::Create(
          options, Bf16Noise(num_weights, /*seed=*/3),
          Bf16Noise(static_cast<size_t>(options.num_rows) * options.num_inputs, /*seed=*/4)));
  if (!peer->has_bf16()) {
    note_ = "oneDNN multiplies f32, twice the bytes: it has no bf16 product for this processor";
  }
  return peer;
}

void KernelMeter::Measure(const KernelCase& what, const Work& work, const Subject& subject) {
  subject.run();  // finds its scratch memory
  std::vector<KernelRound> rounds;
  for (int i = 0; i < options_.num_rounds; ++i) rounds.push_back(MeasureRound(work, subject));
  figures_.push_back(Summarize(what, work, rounds));
  if (options_.on_figures) options_.on_figures(figures_.back());
}

KernelRound KernelMeter::MeasureRound(const Work& work, const Subject& subject) {
  KernelRound round;
  CeilingMeter& ceilings = *options_.ceilings;
  const int num_threads = options_.num_threads;
  const absl::Duration enough = options_.min_time / options_.num_rounds * kCeilingPart;
  round.ceilings.bytes_per_s =
      AverageRate(enough, [&] { return ceilings.ReadBytesPerSecond(num_threads); });
  if (work.flops > 0.0) {
    round.ceilings.flops_per_s =
        AverageRate(enough, [&] { return ceilings.MultiplyFlopsPerSecond(num_threads); });
  }
  round.seconds = TimeOf(subject.run);
  if (subject.run_peer) {
    round.peer_seconds = TimeOf(subject.run_peer);
    if (num_threads > 1) absl::SleepFor(kPeerSettles);
  }
  return round;
}

double KernelMeter::TimeOf(const std::function<void()>& run) const {
  const absl::Duration enough = options_.min_time / options_.num_rounds;
  const int64_t begin = absl::GetCurrentTimeNanos();
  int64_t elapsed = 0;
  int num_calls = 0;
  do {
    run();
    ++num_calls;
    elapsed = absl::GetCurrentTimeNanos() - begin;
  } while (elapsed < absl::ToInt64Nanoseconds(enough));
  return std::max(static_cast<double>(elapsed) * 1e-9 / num_calls, 1e-9);
}

}  // namespace orrery
