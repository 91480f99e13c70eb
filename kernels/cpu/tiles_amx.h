// The eight tile registers of AMX (AMX-TILE and AMX-BF16). tiles_model.h says what each operation
// means; see the rule in lanes_scalar.h.
//
// Registers belong to the thread. Whoever multiplies configures them and releases them when he has
// finished, so nothing stays behind that a context switch would have to save, and threads of a pool
// need no setting up. In between the kernel keeps them over switches and signals, once the process
// has asked for that (cpu_variant.cc); without its permission the first use is an illegal
// instruction.
//
// Numbers of registers are part of the instructions, which the compiler's own intrinsics take as
// text only: hence assembly.
#ifndef ORRERY_KERNELS_CPU_TILES_AMX_H_
#define ORRERY_KERNELS_CPU_TILES_AMX_H_

#include <stdint.h>

namespace orrery::isa_amx {

class Tiles {
 public:
  static constexpr const char* kName = "amx";

  void Configure(int num_rows) {
    // GCC 12 drops stores to a local configuration that only this instruction reads. These are
    // constants, and the barrier is there in case the compiler has ideas about them too.
    const Configuration* const configuration = &kConfigurations.of[num_rows];
    asm volatile("" : : "r"(configuration) : "memory");
    asm volatile("ldtilecfg %0" : : "m"(*configuration) : "memory");
  }
  void Release() { asm volatile("tilerelease" : : : "memory"); }

  template <int kTile>
  void Zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  void Load(const void* from, int64_t stride_bytes) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
                 :
                 : "r"(from), "r"(stride_bytes), "i"(kTile)
                 : "memory");
  }
  // Of what is not read again soon: it passes the L1 cache by, and leaves it to what is.
  template <int kTile>
  void LoadOnce(const void* from, int64_t stride_bytes) {
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2"
                 :
                 : "r"(from), "r"(stride_bytes), "i"(kTile)
                 : "memory");
  }
  template <int kTile>
  void Store(void* to, int64_t stride_bytes) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
                 :
                 : "r"(to), "r"(stride_bytes), "i"(kTile)
                 : "memory");
  }
  template <int kSum, int kRows, int kColumns>
  void Multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kRows), "i"(kColumns));
  }

 private:
  // As LDTILECFG reads it (Intel's Software Developer's Manual).
  struct alignas(64) Configuration {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t num_rows[16];
  };
  static_assert(sizeof(Configuration) == 64);
  struct Configurations {
    Configuration of[17];
  };
  // The last two registers hold 16 rows of a weight, the others num_rows.
  static constexpr Configurations Make() {
    Configurations all = {};
    for (int num_rows = 1; num_rows <= 16; ++num_rows) {
      Configuration& configuration = all.of[num_rows];
      configuration.palette = 1;
      for (int tile = 0; tile < 8; ++tile) {
        configuration.row_bytes[tile] = 64;
        configuration.num_rows[tile] = static_cast<uint8_t>(tile < 6 ? num_rows : 16);
      }
    }
    return all;
  }
  static const Configurations kConfigurations;
};

inline constexpr Tiles::Configurations Tiles::kConfigurations = Tiles::Make();

}  // namespace orrery::isa_amx

#endif  // ORRERY_KERNELS_CPU_TILES_AMX_H_
