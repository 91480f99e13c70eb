#include "kernels/cpu/cpu_variant.h"

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

// These also ask the operating system whether it saves the registers.
bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool HasAvx512() { return HasAvx2() && __builtin_cpu_supports("avx512f"); }

absl::Status Lacks(std::string_view variant) {
  return absl::FailedPreconditionError(absl::StrCat("this processor cannot run the ",
                                                    std::string(variant),
                                                    " kernels; it has: ", SupportedCpuVariants()));
}

}  // namespace

absl::StatusOr<CpuVariant> ParseCpuVariant(std::string_view name) {
  if (name == "best") return CpuVariant::kBest;
  if (name == "scalar") return CpuVariant::kScalar;
  if (name == "avx2") return CpuVariant::kAvx2;
  if (name == "avx512") return CpuVariant::kAvx512;
  return absl::InvalidArgumentError(absl::StrCat("unknown cpu variant \"", std::string(name),
                                                 "\": want best, scalar, avx2 or avx512"));
}

std::string SupportedCpuVariants() {
  return absl::StrCat("scalar", HasAvx2() ? ", avx2" : "", HasAvx512() ? ", avx512" : "");
}

absl::StatusOr<const LaneKernels*> LaneKernelsFor(CpuVariant variant) {
  switch (variant) {
    case CpuVariant::kBest:
      if (HasAvx512()) return &Avx512LaneKernels();
      if (HasAvx2()) return &Avx2LaneKernels();
      return &ScalarLaneKernels();
    case CpuVariant::kScalar:
      return &ScalarLaneKernels();
    case CpuVariant::kAvx2:
      if (HasAvx2()) return &Avx2LaneKernels();
      return Lacks("avx2");
    case CpuVariant::kAvx512:
      if (HasAvx512()) return &Avx512LaneKernels();
      return Lacks("avx512");
  }
  return absl::InvalidArgumentError(absl::StrCat("cpu variant ", static_cast<int>(variant)));
}

}  // namespace orrery
