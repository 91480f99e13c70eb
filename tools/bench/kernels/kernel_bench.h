// One run of `orrery bench kernels`.
//
//   ASSIGN_OR_RETURN(KernelBenchResult result, RunKernelBench({.preset = preset}));
//
// Errors: FAILED_PRECONDITION if this machine cannot run the variant, UNIMPLEMENTED if nothing measures its ceiling,
// NOT_FOUND if the filter fits no operation, RESOURCE_EXHAUSTED without memory.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_KERNEL_BENCH_H_
#define ORRERY_TOOLS_BENCH_KERNELS_KERNEL_BENCH_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "kernels/factory/make_kernels.h"
#include "tools/bench/kernels/kernel_figures.h"
#include "tools/bench/kernels/machine/machine_facts.h"
#include "tools/bench/kernels/preset.h"

namespace orrery {

// A ceiling with so many threads, before and after everything else.
struct MachineCeiling {
  int num_threads = 1;
  Spread bytes_per_s;
  Spread flops_per_s;
};

struct KernelBenchResult {
  std::string command;
  std::string preset;
  std::string family, variant;
  std::string instruction;  // of the compute ceiling
  std::string peer;         // "oneDNN 2.6.3"
  std::string note;         // what is unusual about the peer, or empty
  MachineFacts machine;
  int num_threads = 1;
  int64_t working_set_bytes = 0;
  std::vector<MachineCeiling> ceilings;
  std::vector<KernelFigures> figures;
};

struct KernelBenchOptions {
  std::string command;  // only noted
  KernelPreset preset;
  CpuVariant variant = CpuVariant::kBest;
  int num_threads = 1;                                // of the kernels, the peer and the ceilings
  absl::Duration min_time = absl::Milliseconds(500);  // of each operation
  int num_rounds = 5;
  std::string filter;             // part of the names of operations
  int64_t working_set_bytes = 0;  // 0: see WorkingSetBytes
  // Before the first operation, with no figures yet; after each one. May be null.
  std::function<void(const KernelBenchResult&)> on_begin;
  std::function<void(const KernelFigures&)> on_figures;
};

absl::StatusOr<KernelBenchResult> RunKernelBench(const KernelBenchOptions& options);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_KERNEL_BENCH_H_
