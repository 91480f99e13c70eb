// The one place that knows every target of `orrery bench kernels`.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<BenchTarget> target, MakeTarget("cuda", {}));
//
// Errors: INVALID_ARGUMENT for another name; FAILED_PRECONDITION for cuda in a program built without --config=cuda; those of
// the targets.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_MAKE_TARGET_H_
#define ORRERY_TOOLS_BENCH_KERNELS_MAKE_TARGET_H_

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "tools/bench/kernels/bench_target.h"
#include "tools/bench/kernels/cpu/cpu_target.h"

namespace orrery {

// "cpu" or "cuda". Of a GPU, the first that this process sees, the options say the working set only.
absl::StatusOr<std::unique_ptr<BenchTarget>> MakeTarget(const std::string& device,
                                                        const CpuTargetOptions& options);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_MAKE_TARGET_H_
