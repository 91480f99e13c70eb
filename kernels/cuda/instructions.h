// Which instructions a GPU's tensor cores are given. Everything that differs between them asks here; what is chosen
// is part of the family's name.
#ifndef ORRERY_KERNELS_CUDA_INSTRUCTIONS_H_
#define ORRERY_KERNELS_CUDA_INSTRUCTIONS_H_

namespace orrery {

enum class Instructions {
  kMma,  // mma.sync, from sm_80 on
  kWgmma,  // and, where there is a kernel for it, wgmma: sm_90a, which no other GPU is compatible with
};

constexpr Instructions InstructionsOf(int major, int minor) {
  return major == 9 && minor == 0 ? Instructions::kWgmma : Instructions::kMma;
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_INSTRUCTIONS_H_
