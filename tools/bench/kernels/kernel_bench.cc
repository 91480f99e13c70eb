#include "tools/bench/kernels/kernel_bench.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "tools/bench/kernels/cases.h"
#include "tools/bench/kernels/kernel_meter.h"
#include "tools/bench/kernels/machine/ceiling_meter.h"
#include "tools/bench/kernels/onednn_matmul.h"

namespace orrery {
namespace {

constexpr int kNumCeilingSamples = 5;

// Samples of the ceilings with one thread and with all.
class CeilingSamples {
 public:
  CeilingSamples(CeilingMeter* meter, int num_threads) : meter_(*meter) {
    samples_.push_back({.num_threads = 1});
    if (num_threads > 1) samples_.push_back({.num_threads = num_threads});
  }

  void Take() {
    for (int i = 0; i < kNumCeilingSamples; ++i) {
      for (Samples& samples : samples_) {
        samples.bytes_per_s.push_back(meter_.ReadBytesPerSecond(samples.num_threads));
        samples.flops_per_s.push_back(meter_.MultiplyFlopsPerSecond(samples.num_threads));
      }
    }
  }

  std::vector<MachineCeiling> Get() const {
    std::vector<MachineCeiling> ceilings;
    for (const Samples& samples : samples_) {
      ceilings.push_back({.num_threads = samples.num_threads,
                          .bytes_per_s = SpreadOf(samples.bytes_per_s),
                          .flops_per_s = SpreadOf(samples.flops_per_s)});
    }
    return ceilings;
  }

 private:
  struct Samples {
    int num_threads = 1;
    std::vector<double> bytes_per_s = {};
    std::vector<double> flops_per_s = {};
  };
  CeilingMeter& meter_;
  std::vector<Samples> samples_;
};

absl::Status MeasureEverything(const KernelPreset& preset, KernelMeter& meter) {
  RETURN_IF_ERROR(MeasureFeedForward(preset, meter));
  RETURN_IF_ERROR(MeasureProjections(preset, meter));
  RETURN_IF_ERROR(MeasureAttention(preset, meter));
  return MeasureRowKernels(preset, meter);
}

}  // namespace

absl::StatusOr<KernelBenchResult> RunKernelBench(const KernelBenchOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Kernels> kernels,
                   MakeKernels(Backend::kCpu, options.variant, /*stream=*/nullptr,
                               {.num_threads = options.num_threads, .cpus = {}}));
  KernelBenchResult result;
  result.command = options.command;
  result.preset = options.preset.name;
  result.family = std::string(kernels->family());
  result.variant = std::string(kernels->variant());
  result.peer = OneDnnVersion();
  result.machine = ReadMachineFacts("/");
  result.num_threads = options.num_threads;
  result.working_set_bytes = WorkingSetBytes(options.working_set_bytes, result.machine);

  ASSIGN_OR_RETURN(const std::unique_ptr<CeilingMeter> ceilings,
                   CeilingMeter::Create(kernels->variant(), result.working_set_bytes));
  result.instruction = ceilings->loops().instruction;
  CeilingSamples samples(ceilings.get(), options.num_threads);
  samples.Take();
  result.ceilings = samples.Get();
  if (options.on_begin) options.on_begin(result);

  KernelMeter meter({.kernels = kernels.get(),
                     .ceilings = ceilings.get(),
                     .num_threads = options.num_threads,
                     .num_rounds = options.num_rounds,
                     .min_time = options.min_time,
                     .filter = options.filter,
                     .working_set_bytes = result.working_set_bytes,
                     .on_figures = options.on_figures});
  RETURN_IF_ERROR(MeasureEverything(options.preset, meter));
  if (meter.figures().empty()) {
    return absl::NotFoundError(
        absl::StrCat("no operation has \"", options.filter, "\" in its name"));
  }
  samples.Take();
  result.ceilings = samples.Get();
  result.figures = meter.figures();
  result.note = meter.note();
  return result;
}

}  // namespace orrery
