// Measures one operation after another beside the machine's ceilings and a peer, in turns.
//
//   KernelMeter meter({.kernels = kernels.get(), .ceilings = ceilings.get(), ...});
//   if (meter.Wants(what)) meter.Measure(what, work, {.run = [&] { kernels->Matmul(...); }, .run_peer = ...});
//
// `run` is called again and again; it is up to it to meet other memory each time, so that what `work` counts does
// come from memory. Threads: one owner.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_KERNEL_METER_H_
#define ORRERY_TOOLS_BENCH_KERNELS_KERNEL_METER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "tools/bench/kernels/kernel_figures.h"
#include "tools/bench/kernels/machine/ceiling_meter.h"
#include "tools/bench/kernels/onednn_matmul.h"

namespace orrery {

class KernelMeter {
 public:
  struct Options {
    Kernels* kernels = nullptr;
    CeilingMeter* ceilings = nullptr;
    int num_threads = 1;  // of the kernels, and so of the peer and the ceilings
    int num_rounds = 5;
    absl::Duration min_time;  // of each operation and of its peer, over all rounds; a call at least
    std::string filter;       // part of a name; empty: everything
    int64_t working_set_bytes = 0;
    // Called when an operation is done; may be null.
    std::function<void(const KernelFigures&)> on_figures;
  };
  struct Subject {
    std::function<void()> run;
    std::function<void()> run_peer;  // may be null
  };

  explicit KernelMeter(Options options) : options_(std::move(options)) {}

  Kernels& kernels() const { return *options_.kernels; }
  bool Wants(const KernelCase& what) const;
  void Measure(const KernelCase& what, const Work& work, const Subject& subject);

  // How many things of this size make up the working set.
  int NumCopies(double num_bytes) const;
  absl::StatusOr<std::unique_ptr<OneDnnMatmul>> MakePeer(OneDnnMatmul::Options options);

  const std::vector<KernelFigures>& figures() const { return figures_; }
  const std::string& note() const { return note_; }

 private:
  KernelRound MeasureRound(const Work& work, const Subject& subject);
  // Seconds of one call, over calls until the round's part of min_time is over.
  double TimeOf(const std::function<void()>& run) const;

  const Options options_;
  std::vector<KernelFigures> figures_;
  std::string note_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_KERNEL_METER_H_
