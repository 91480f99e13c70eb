// Loops that do one thing only, as fast as one core can: the ceilings of a machine.
//
//   ASSIGN_OR_RETURN(const MachineLoops* loops, MachineLoopsFor(kernels.variant()));
//   loops->multiply(1'000'000);     // 1'000'000 * loops->flops_per_round operations
//
// One table per variant of the kernels, with the multiply instruction that the variant uses, compiled with
// options of its own like kernels/cpu. A new variant is a file with a `Unit` (machine_loops-inl.h) and a row
// in ceiling_meter.cc. AMX, whose tiles are no registers of a Unit, is a table with a `multiply` of its own
// and the `read` of AVX-512.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MACHINE_LOOPS_H_
#define ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MACHINE_LOOPS_H_

#include <stddef.h>
#include <stdint.h>

namespace orrery {

// `read` takes multiples of this.
inline constexpr size_t kReadUnitBytes = 4096;

struct MachineLoops {
  const char* instruction;  // that multiplies: "VDPBF16PS, 512 bits"
  double flops_per_round;
  // Independent multiply-adds in registers, enough of them to fill the pipeline. The result is only there so
  // that the work has to be done.
  float (*multiply)(int64_t num_rounds);
  // Loads every byte once, with the widest loads of the variant.
  uint32_t (*read)(const void* data, size_t num_bytes);
};

const MachineLoops& ScalarMachineLoops();
const MachineLoops& Avx2MachineLoops();        // only on a processor with AVX2 and FMA
const MachineLoops& Avx512MachineLoops();      // only on a processor with AVX512F
const MachineLoops& Avx512Bf16MachineLoops();  // and AVX512_BF16
const MachineLoops&
AmxMachineLoops();  // and AMX-BF16, which the system has permitted (SupportedCpuVariants)

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MACHINE_LOOPS_H_
