#include "kernels/cpu/cpu_variant.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

// These also ask the operating system whether it saves the registers.
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
bool HasAvx512() { return HasAvx2() && __builtin_cpu_supports("avx512f"); }

// GCC takes AVX512BW for granted where there is AVX512_BF16.
bool HasAvx512Bf16() {
  return HasAvx512() && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
}

// The system reserves the 8 KiB of tile registers only for processes that ask for them, once and for
// all their threads. It refuses where an alternate signal stack is too small for them.
bool PermitsTiles() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM, of asm/prctl.h
  constexpr int kTileData = 18;               // the component of XSAVE
  static const bool permits = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return permits;
}
bool HasAmx() {
  return HasAvx512Bf16() && __builtin_cpu_supports("amx-tile") &&
         __builtin_cpu_supports("amx-bf16") && PermitsTiles();
}

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
  if (name == "avx512bf16") return CpuVariant::kAvx512Bf16;
  if (name == "amx") return CpuVariant::kAmx;
  if (name == "amx-model") return CpuVariant::kAmxModel;
  return absl::InvalidArgumentError(
      absl::StrCat("unknown cpu variant \"", std::string(name),
                   "\": want best, scalar, avx2, avx512, avx512bf16, amx or amx-model"));
}

std::string SupportedCpuVariants() {
  return absl::StrCat("scalar", HasAvx2() ? ", avx2" : "", HasAvx512() ? ", avx512" : "",
                      HasAvx512Bf16() ? ", avx512bf16" : "", HasAmx() ? ", amx" : "");
}

absl::StatusOr<const LaneKernels*> LaneKernelsFor(CpuVariant variant) {
  switch (variant) {
    case CpuVariant::kBest:
      if (HasAmx()) return &AmxLaneKernels();
      if (HasAvx512Bf16()) return &Avx512Bf16LaneKernels();
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
    case CpuVariant::kAvx512Bf16:
      if (HasAvx512Bf16()) return &Avx512Bf16LaneKernels();
      return Lacks("avx512bf16");
    case CpuVariant::kAmx:
      if (HasAmx()) return &AmxLaneKernels();
      return Lacks("amx");
    case CpuVariant::kAmxModel:
      if (HasAvx512Bf16()) return &AmxModelLaneKernels();
      return Lacks("amx-model (which need avx512bf16)");
  }
  return absl::InvalidArgumentError(absl::StrCat("cpu variant ", static_cast<int>(variant)));
}

}  // namespace orrery
