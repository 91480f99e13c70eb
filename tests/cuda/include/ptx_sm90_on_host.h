// The PTX instructions of kernels/cuda/ptx_sm90.h, in plain C++. Descriptors are decoded and places swizzled as the
// PTX manual has it, so that a wrong address is a wrong result or the end of the process.
//
// What is asynchronous on a GPU happens at the worst time here:
//   * bulk copies arrive when all threads of the block wait, the latest first;
//   * products read their operands when they are issued, and again when they are waited for: if they have
//     changed in between, the process ends. Sums are no numbers until then;
//   * whoever issues products without wgmma.fence since the last wait, or ends with any under way, ends the
//     process.
//
// Not modelled: the proxy fence (memory is one), setmaxnreg, and the order of sums within an instruction, which here
// is ascending in f32.
#ifndef ORRERY_TESTS_CUDA_INCLUDE_PTX_SM90_ON_HOST_H_
#define ORRERY_TESTS_CUDA_INCLUDE_PTX_SM90_ON_HOST_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace orrery::ptx {

struct alignas(8) Barrier {
  uint64_t state;
};

}  // namespace orrery::ptx

namespace cuda_on_host {

// barriers.cc
inline constexpr uint32_t kReservedShared = 1024;
// Of dynamic shared memory, which begins behind what a GPU keeps for itself.
uint32_t SharedAddress(const void* shared);
void MakeBarrier(orrery::ptx::Barrier& barrier, int num_threads);
void ArriveAt(orrery::ptx::Barrier& barrier, int num_bytes);
void AwaitParity(orrery::ptx::Barrier& barrier, uint32_t parity);
void CopyBulk(std::byte* to, const std::byte* from, int num_bytes, orrery::ptx::Barrier& barrier);
void MeetAt(int barrier, int num_threads);

// warpgroup.cc
enum class ProductKind { kFp8, kBf16, kBf16Across };
struct IssuedProduct {
  ProductKind kind;
  uint64_t a;
  uint64_t b;
  bool adds;

  bool operator==(const IssuedProduct&) const = default;
};
void FenceProducts();
void Multiply(const IssuedProduct& product, float* sums);
void CommitProducts();
void AwaitProducts(int num_left);

}  // namespace cuda_on_host

namespace orrery::ptx {

inline uint32_t SharedAddress(const void* shared) { return cuda_on_host::SharedAddress(shared); }

inline void MakeBarrier(Barrier& barrier, int num_threads) {
  cuda_on_host::MakeBarrier(barrier, num_threads);
}
inline void Arrive(Barrier& barrier) { cuda_on_host::ArriveAt(barrier, 0); }
inline void ArriveExpecting(Barrier& barrier, int num_bytes) {
  cuda_on_host::ArriveAt(barrier, num_bytes);
}
inline void Await(Barrier& barrier, uint32_t parity) { cuda_on_host::AwaitParity(barrier, parity); }
inline void CopyBulk(std::byte* to, const std::byte* from, int num_bytes, Barrier& barrier) {
  cuda_on_host::CopyBulk(to, from, num_bytes, barrier);
}
inline void FenceAsync() {}
inline void MeetAt(int barrier, int num_threads) { cuda_on_host::MeetAt(barrier, num_threads); }

template <int num>
void TakeRegisters() {
  static_assert(num % 8 == 0 && 24 <= num && num <= 256);
}
template <int num>
void LeaveRegisters() {
  static_assert(num % 8 == 0 && 24 <= num && num <= 256);
}

inline void FenceProducts() { cuda_on_host::FenceProducts(); }
inline void CommitProducts() { cuda_on_host::CommitProducts(); }
template <int num_left>
void AwaitProducts() {
  cuda_on_host::AwaitProducts(num_left);
}
template <int num>
void PinSums(float (&sums)[num]) {}

inline void MultiplyFp8(float (&sums)[32], uint64_t a, uint64_t b, bool adds) {
  cuda_on_host::Multiply({cuda_on_host::ProductKind::kFp8, a, b, adds}, sums);
}
inline void MultiplyBf16(float (&sums)[32], uint64_t a, uint64_t b, bool adds) {
  cuda_on_host::Multiply({cuda_on_host::ProductKind::kBf16, a, b, adds}, sums);
}
inline void MultiplyBf16Across(float (&sums)[128], uint64_t a, uint64_t b) {
  cuda_on_host::Multiply({cuda_on_host::ProductKind::kBf16Across, a, b, true}, sums);
}

}  // namespace orrery::ptx

#endif  // ORRERY_TESTS_CUDA_INCLUDE_PTX_SM90_ON_HOST_H_
