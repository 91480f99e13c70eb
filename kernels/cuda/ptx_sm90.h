// The instructions of sm_90a: products of a warpgroup (four warps, the first with an index divisible by four) over
// operands in shared memory, barriers that count threads and bytes, copies in bulk. Beside ptx.h, and as there
// without nvcc their model takes over (tests/cuda/include/ptx_sm90_on_host.h).
//
//   FenceProducts();                                     // registers of the sums are ready
//   for (int k = 0; k < 4; ++k) MultiplyFp8(sums, Advanced(a, 32 * k), Advanced(b, 32 * k), k > 0);
//   CommitProducts();
//   ... neither sums nor what the operands lie in is touched ...
//   AwaitProducts<0>();
//
// A matrix of sums [64, n] lies in the threads of its warpgroup as those of mma.sync do: warp w has rows 16 w...,
// lane 4 g + t of it
//
//   sums[4 j], sums[4 j + 1]   row g, columns 8 j + 2 t, + 1        sums[4 j + 2], [4 j + 3]   row g + 8
//
// Sources: PTX ISA 9.0, 9.7.15 "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions", 9.7.13.15
// "mbarrier", 9.7.9.25 "cp.async.bulk", 9.7.13.4 "membar/fence" (proxies), 9.7.19 "setmaxnreg".
#ifndef ORRERY_KERNELS_CUDA_PTX_SM90_H_
#define ORRERY_KERNELS_CUDA_PTX_SM90_H_

#include "kernels/cuda/ptx.h"

// Around what uses them in a kernel: the same source is compiled for GPUs that have none of this, where such a
// kernel is empty and never launched.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ORRERY_SM90A 1
#else
#define ORRERY_SM90A 0
#endif

#ifdef __CUDACC__

namespace orrery::ptx {

__device__ inline uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// In shared memory. Phases of a barrier end when as many threads as it was made for have arrived, and all bytes
// that they expect. They count from 0; a thread waits for the end of one by its parity, and must not fall two
// behind. Parity 1 before any phase has ended: it does not wait.
struct alignas(8) Barrier {
  uint64_t state;
};

// By one thread, before the others meet in the block.
__device__ inline void MakeBarrier(Barrier& barrier, int num_threads) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(&barrier)),
               "r"(num_threads)
               : "memory");
}
__device__ inline void Arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(&barrier))
               : "memory");
}
__device__ inline void ArriveExpecting(Barrier& barrier, int num_bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(&barrier)),
      "r"(num_bytes)
      : "memory");
}
__device__ inline void Await(Barrier& barrier, uint32_t parity) {
  uint32_t is_done = 0;
  while (is_done == 0) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}\n"
        : "=r"(is_done)
        : "r"(SharedAddress(&barrier)), "r"(parity)
        : "memory");
  }
}

// From global to shared memory, in multiples of 16 bytes on borders of 16; the bytes arrive at the barrier.
__device__ inline void CopyBulk(std::byte* to, const std::byte* from, int num_bytes,
                                Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(SharedAddress(to)),
      "l"(__cvta_generic_to_global(from)), "r"(num_bytes), "r"(SharedAddress(&barrier))
      : "memory");
}

// What this thread wrote to shared memory so far, or sees there, comes before what products and bulk copies do
// after the next barrier.
__device__ inline void FenceAsync() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Some whole warps of the block, of which all name the same barrier, 1 to 15.
__device__ inline void MeetAt(int barrier, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(num_threads) : "memory");
}

// Registers of each thread of the warpgroup from now on; in whole eights, from 24 to 256.
template <int num>
__device__ inline void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(num));
}
template <int num>
__device__ inline void LeaveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(num));
}

__device__ inline void FenceProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// All but the latest num_left groups have ended.
template <int num_left>
__device__ inline void AwaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(num_left) : "memory");
}
// The compiler keeps uses of the sums on their side of it: it knows nothing of registers that change later.
template <int num>
__device__ inline void PinSums(float (&sums)[num]) {
  ORRERY_UNROLL
  for (int i = 0; i < num; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

// Lists of registers, in the text of an instruction and as operands.
#define ORRERY_PTX_SUMS_32                                                            \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
#define ORRERY_PTX_SUMS_128                                                           \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, "  \
  "%34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, "  \
  "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, "  \
  "%66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, "  \
  "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, "  \
  "%98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "      \
  "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, "    \
  "%124, %125, %126, %127}, "
#define ORRERY_OPERANDS_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define ORRERY_OPERANDS_16(d, i)                                                     \
  ORRERY_OPERANDS_4(d, i), ORRERY_OPERANDS_4(d, i + 4), ORRERY_OPERANDS_4(d, i + 8), \
      ORRERY_OPERANDS_4(d, i + 12)
#define ORRERY_OPERANDS_32(d, i) ORRERY_OPERANDS_16(d, i), ORRERY_OPERANDS_16(d, i + 16)

// sums [64, 64] (+)= a [64, 32] * b [64, 32]^T of e4m3: both along their rows.
__device__ inline void MultiplyFp8(float (&sums)[32], uint64_t a, uint64_t b, bool adds) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 " ORRERY_PTX_SUMS_32
      "%32, %33, p, 1, 1;\n"
      "}\n"
      : ORRERY_OPERANDS_32(sums, 0)
      : "l"(a), "l"(b), "r"(static_cast<int>(adds)));
}
// sums [64, 64] (+)= a [64, 16] * b [64, 16]^T of bf16: both along their rows.
__device__ inline void MultiplyBf16(float (&sums)[32], uint64_t a, uint64_t b, bool adds) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " ORRERY_PTX_SUMS_32
      "%32, %33, p, 1, 1, 0, 0;\n"
      "}\n"
      : ORRERY_OPERANDS_32(sums, 0)
      : "l"(a), "l"(b), "r"(static_cast<int>(adds)));
}
// sums [64, 256] += a [64, 16] * b [16, 256] of bf16: b across its rows.
__device__ inline void MultiplyBf16Across(float (&sums)[128], uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " ORRERY_PTX_SUMS_128
               "%128, %129, 1, 1, 1, 0, 1;\n"
               : ORRERY_OPERANDS_32(sums, 0), ORRERY_OPERANDS_32(sums, 32),
                 ORRERY_OPERANDS_32(sums, 64), ORRERY_OPERANDS_32(sums, 96)
               : "l"(a), "l"(b));
}

#undef ORRERY_PTX_SUMS_32
#undef ORRERY_PTX_SUMS_128
#undef ORRERY_OPERANDS_4
#undef ORRERY_OPERANDS_16
#undef ORRERY_OPERANDS_32

}  // namespace orrery::ptx

#else
#include <ptx_sm90_on_host.h>
#endif

#include "kernels/cuda/swizzle.h"

namespace orrery::ptx {

// What an instruction is told of an operand (PTX ISA 9.0, 9.7.15.5.1.2.2 "Matrix Descriptor Format"), all in units
// of 16 bytes: bits 0 to 13 where it begins, 16 to 29 how far the next slab is, where it is read across its rows, 32
// to 45 how far the next eight rows are; bits 62 and 63: 1 for slabs of 128 bytes.
__device__ inline uint64_t DescriptorOf(const std::byte* tile, int64_t slab_stride) {
  return (SharedAddress(tile) & 0x3ffff) >> 4 | static_cast<uint64_t>(slab_stride >> 4) << 16 |
         static_cast<uint64_t>(kSwizzleBytes >> 4) << 32 | uint64_t{1} << 62;
}
// A tile [rows, 128 bytes], read along its rows.
__device__ inline uint64_t AlongRows(const std::byte* tile) { return DescriptorOf(tile, 16); }
// A tile [rows, slabs], read across its rows.
__device__ inline uint64_t AcrossRows(const std::byte* tile, int64_t slab_stride) {
  return DescriptorOf(tile, slab_stride);
}
// The operand that begins so much further: 32 bytes along the rows, or 16 rows across them, for the next
// instruction.
__device__ inline uint64_t Advanced(uint64_t descriptor, int num_bytes) {
  return descriptor + static_cast<uint64_t>(num_bytes >> 4);
}

}  // namespace orrery::ptx

#endif  // ORRERY_KERNELS_CUDA_PTX_SM90_H_
