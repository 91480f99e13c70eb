// Measures one operation after another beside the target's ceilings and a peer, in turns.
//
//   KernelMeter meter({.target = target.get(), ...});
//   if (meter.Wants(what)) RETURN_IF_ERROR(meter.Measure(what, work, {.run = [&] { kernels->Matmul(...); }, .run_peer = ...}));
//
// `run` is called again and again; it is up to it to meet other memory each time, so that what `work` counts does
// come from memory. Threads: one owner. Errors: those of the target.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_KERNEL_METER_H_
#define ORRERY_TOOLS_BENCH_KERNELS_KERNEL_METER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "tools/bench/kernels/bench_target.h"
#include "tools/bench/kernels/kernel_figures.h"

namespace orrery {

class KernelMeter {
 public:
  struct Options {
    BenchTarget* target = nullptr;
    int num_rounds = 5;
    absl::Duration min_time;  // of each operation and of its peer, over all rounds; a call at least
    std::string filter;       // part of a name; empty: everything
    // Called when an operation is done; may be null.
    std::function<void(const KernelFigures&)> on_figures;
  };
  struct Subject {
    std::function<void()> run = {};
    std::function<absl::Status()> run_peer = {};  // may be null
    Operands operands = Operands::kBf16;          // of the compute ceiling
  };

  explicit KernelMeter(Options options) : options_(std::move(options)) {}

  Kernels& kernels() const { return options_.target->kernels(); }
  BenchTarget& target() const { return *options_.target; }
  bool Wants(const KernelCase& what) const;
  absl::Status Measure(const KernelCase& what, const Work& work, const Subject& subject);

  // Memory of the device: so many bytes, and these values.
  absl::StatusOr<Buffer> Allocate(size_t num_bytes) const;
  template <typename T>
  absl::StatusOr<Buffer> Upload(const std::vector<T>& values) const {
    return UploadBytes(values.data(), values.size() * sizeof(T));
  }
  // How many things of this size make up the working set.
  int NumCopies(double num_bytes) const;
  // Of as many weights as make up the working set. Null where there is no peer.
  absl::StatusOr<std::unique_ptr<PeerProduct>> MakePeer(PeerProduct::Shape shape) const;

  const std::vector<KernelFigures>& figures() const { return figures_; }

 private:
  absl::StatusOr<Buffer> UploadBytes(const void* data, size_t num_bytes) const;
  absl::StatusOr<KernelRound> MeasureRound(const Work& work, const Subject& subject);
  absl::StatusOr<double> TimeOfPeer(const Subject& subject, absl::Duration enough);

  const Options options_;
  std::vector<KernelFigures> figures_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_KERNEL_METER_H_
