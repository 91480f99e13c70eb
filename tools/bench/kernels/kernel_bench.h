// One run of `orrery bench kernels`.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<BenchTarget> target, MakeCpuTarget({}));
//   ASSIGN_OR_RETURN(KernelBenchResult result, RunKernelBench({.preset = preset}, *target));
//
// Errors: NOT_FOUND if the filter fits no operation, RESOURCE_EXHAUSTED without memory, those of the target.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_KERNEL_BENCH_H_
#define ORRERY_TOOLS_BENCH_KERNELS_KERNEL_BENCH_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "tools/bench/kernels/bench_target.h"
#include "tools/bench/kernels/kernel_figures.h"
#include "tools/bench/kernels/preset.h"

namespace orrery {

// Ceilings by their name, before and after everything else.
struct CeilingFigures {
  std::string name;
  Spread bytes_per_s;
  Spread flops_per_s;
};

struct KernelBenchResult {
  std::string command;
  std::string preset;
  std::string family, variant;
  TargetFacts target;
  std::string note;  // what is unusual about ceilings or peer, or empty
  std::vector<CeilingFigures> ceilings;
  std::vector<KernelFigures> figures;
};

struct KernelBenchOptions {
  std::string command;  // only noted
  KernelPreset preset;
  absl::Duration min_time = absl::Milliseconds(500);  // of each operation
  int num_rounds = 5;
  std::string filter;  // part of the names of operations
  // Before the first operation, with no figures yet; after each one. May be null.
  std::function<void(const KernelBenchResult&)> on_begin;
  std::function<void(const KernelFigures&)> on_figures;
};

absl::StatusOr<KernelBenchResult> RunKernelBench(const KernelBenchOptions& options,
                                                 BenchTarget& target);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_KERNEL_BENCH_H_
