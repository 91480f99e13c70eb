// The processor cores of this machine: time by its clock, memory read by all threads, the multiply instruction of the
// kernels' variant on registers, and oneDNN.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<BenchTarget> target, MakeCpuTarget({.num_threads = 2}));
//
// Errors: FAILED_PRECONDITION if this machine cannot run the variant, UNIMPLEMENTED if nothing measures its ceiling,
// RESOURCE_EXHAUSTED without memory.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_CPU_CPU_TARGET_H_
#define ORRERY_TOOLS_BENCH_KERNELS_CPU_CPU_TARGET_H_

#include <cstdint>
#include <memory>

#include "base/status.h"
#include "kernels/factory/make_kernels.h"
#include "tools/bench/kernels/bench_target.h"

namespace orrery {

struct CpuTargetOptions {
  CpuVariant variant = CpuVariant::kBest;
  int num_threads = 1;            // of the kernels, the peer and the ceilings
  int64_t working_set_bytes = 0;  // 0: see WorkingSetBytes
};

absl::StatusOr<std::unique_ptr<BenchTarget>> MakeCpuTarget(const CpuTargetOptions& options);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_CPU_CPU_TARGET_H_
