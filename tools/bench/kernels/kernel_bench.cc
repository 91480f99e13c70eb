#include "tools/bench/kernels/kernel_bench.h"

#include "absl/strings/str_cat.h"
#include "tools/bench/kernels/cases.h"
#include "tools/bench/kernels/kernel_meter.h"

namespace orrery {
namespace {

constexpr int kNumCeilingSamples = 5;

// What samples of a target's ceilings come to, so far.
class CeilingSamples {
 public:
  explicit CeilingSamples(BenchTarget* target) : target_(*target) {}

  absl::Status Take() {
    for (int i = 0; i < kNumCeilingSamples; ++i) {
      ASSIGN_OR_RETURN(const std::vector<NamedCeilings> all, target_.SampleCeilings());
      samples_.resize(all.size());
      for (size_t c = 0; c < all.size(); ++c) {
        samples_[c].name = all[c].name;
        samples_[c].bytes_per_s.push_back(all[c].ceilings.bytes_per_s);
        samples_[c].flops_per_s.push_back(all[c].ceilings.flops_per_s);
      }
    }
    return absl::OkStatus();
  }

  std::vector<CeilingFigures> Get() const {
    std::vector<CeilingFigures> ceilings;
    for (const Samples& samples : samples_) {
      ceilings.push_back({.name = samples.name,
                          .bytes_per_s = SpreadOf(samples.bytes_per_s),
                          .flops_per_s = SpreadOf(samples.flops_per_s)});
    }
    return ceilings;
  }

 private:
  struct Samples {
    std::string name;
    std::vector<double> bytes_per_s;
    std::vector<double> flops_per_s;
  };
  BenchTarget& target_;
  std::vector<Samples> samples_;
};

absl::Status MeasureEverything(const KernelPreset& preset, KernelMeter& meter) {
  RETURN_IF_ERROR(MeasureFeedForward(preset, meter));
  RETURN_IF_ERROR(MeasureProjections(preset, meter));
  RETURN_IF_ERROR(MeasureAttention(preset, meter));
  return MeasureRowKernels(preset, meter);
}

}  // namespace

absl::StatusOr<KernelBenchResult> RunKernelBench(const KernelBenchOptions& options,
                                                 BenchTarget& target) {
  KernelBenchResult result;
  result.command = options.command;
  result.preset = options.preset.name;
  result.family = std::string(target.kernels().family());
  result.variant = std::string(target.kernels().variant());
  result.target = target.facts();
  CeilingSamples samples(&target);
  RETURN_IF_ERROR(samples.Take());
  result.ceilings = samples.Get();
  result.note = target.note();
  if (options.on_begin) options.on_begin(result);

  KernelMeter meter({.target = &target,
                     .num_rounds = options.num_rounds,
                     .min_time = options.min_time,
                     .filter = options.filter,
                     .on_figures = options.on_figures});
  RETURN_IF_ERROR(MeasureEverything(options.preset, meter));
  if (meter.figures().empty()) {
    return absl::NotFoundError(
        absl::StrCat("no operation has \"", options.filter, "\" in its name"));
  }
  RETURN_IF_ERROR(samples.Take());
  result.ceilings = samples.Get();
  result.figures = meter.figures();
  result.note = target.note();
  return result;
}

}  // namespace orrery
