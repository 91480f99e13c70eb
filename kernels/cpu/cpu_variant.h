// How a machine runs the x86 kernels. All variants give the same bits; they differ in speed.
#ifndef ORRERY_KERNELS_CPU_CPU_VARIANT_H_
#define ORRERY_KERNELS_CPU_CPU_VARIANT_H_

#include <string>
#include <string_view>

#include "base/status.h"
#include "kernels/cpu/lane_kernels.h"

namespace orrery {

// kAmxModel is kAmx with a model of the tile registers in plain C++, for tests on machines without: slow.
enum class CpuVariant { kBest, kScalar, kAvx2, kAvx512, kAvx512Bf16, kAmx, kAmxModel };

// "best", "scalar", "avx2", "avx512", "avx512bf16", "amx", "amx-model"; anything else is
// INVALID_ARGUMENT.
absl::StatusOr<CpuVariant> ParseCpuVariant(std::string_view name);

// What this processor (and its operating system) can run, for messages: "scalar, avx2".
// Asking for AMX asks the system for permission to use it, which the process then keeps.
std::string SupportedCpuVariants();

// FAILED_PRECONDITION if this machine lacks it.
absl::StatusOr<const LaneKernels*> LaneKernelsFor(CpuVariant variant);

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_CPU_VARIANT_H_
