// Steps of a product on their way from global memory to the lane that will multiply them: codes of two
// tiles, and eight inputs of up to four rows.
//
//   steps.Begin(from, step_begin, step_end);
//   for (int step = step_begin; step < step_end; ++step) {
//     steps.Next();
//     ... steps.codes(0), steps.codes(1), steps.row(n) ...
//   }
//
// A lane copies what it needs itself and reads only what it copied, so that no lane waits for another: shared
// memory does what registers would if there were enough. A GPU reads at full speed when about 30 KB are on
// their way to each multiprocessor (H200: 4.8 TB/s * 0.8 us / 132); of fp8 codes a block of threads has
// three steps of 4 KiB, of bf16 codes two of 8 KiB. For kernels.
#ifndef ORRERY_KERNELS_CUDA_LANE_STEPS_H_
#define ORRERY_KERNELS_CUDA_LANE_STEPS_H_

#include <cuda_runtime.h>

#include "kernels/cuda/device_math.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/weight_codes.h"

namespace orrery {

// Of a block of threads: what needs no permission.
inline constexpr int kStepsBytes = 48 << 10;

template <CodeFormat format>
class LaneSteps {
 public:
  using Codes = LaneCodes<format>;
  static constexpr int kMaxRows = 4;

  // Of the lane, at step 0. Another step is one further: in codes 32 of them, in rows 32 inputs.
  struct Source {
    const Codes* codes = nullptr;
    int tile_stride = 0;  // from the codes of a tile to those of the other
    const uint16_t* row = nullptr;
    int row_stride = 0;  // from a row to the next one that the lane has
    int num_rows = 0;
  };

  // memory: kStepsBytes, on a border of 16.
  __device__ explicit LaneSteps(std::byte* memory) : memory_(memory + threadIdx.x * kSlotBytes) {}

  __device__ void Begin(const Source& from, int step_begin, int step_end) {
    from_ = from;
    next_ = step_begin;
    end_ = step_end;
    for (int stage = 0; stage < kNumStages - 1; ++stage) CopyNext(stage);
    stage_ = kNumStages - 1;
  }
  __device__ void Next() {
    ptx::WaitForCopies<kNumStages - 2>();
    CopyNext(stage_);  // over the step that is done
    stage_ = After(stage_);
  }
  __device__ Codes codes(int m) const {
    Codes codes;
    for (int i = 0; i < kCodeSlots; ++i) {
      reinterpret_cast<Piece*>(&codes)[i] =
          *reinterpret_cast<const Piece*>(Slot(stage_, m * kCodeSlots + i));
    }
    return codes;
  }
  __device__ FourWords row(int n) const {
    return *reinterpret_cast<const FourWords*>(Slot(stage_, 2 * kCodeSlots + n));
  }

 private:
  // A stage is slots of 16 bytes of each thread, so that the lanes of a warp read from different banks.
  static constexpr int kSlotBytes = 16;
  static constexpr int kPieceBytes = sizeof(Codes) < kSlotBytes ? sizeof(Codes) : kSlotBytes;
  static constexpr int kCodeSlots = sizeof(Codes) / kPieceBytes;
  static constexpr int kNumSlots = 2 * kCodeSlots + kMaxRows;
  static constexpr int kNumStages = kStepsBytes / (kNumSlots * kSlotBytes * kBlockThreads);
  static_assert(kNumStages >= 3);
  struct alignas(kPieceBytes) Piece {
    std::byte bytes[kPieceBytes];
  };

  __device__ static int After(int stage) { return stage + 1 == kNumStages ? 0 : stage + 1; }
  __device__ std::byte* Slot(int stage, int slot) const {
    return memory_ + (stage * kNumSlots + slot) * kBlockThreads * kSlotBytes;
  }

  // A group of copies, empty behind the end.
  __device__ void CopyNext(int stage) {
    if (next_ < end_) {
      for (int m = 0; m < 2; ++m) {
        const auto* const codes = reinterpret_cast<const std::byte*>(
            from_.codes + m * from_.tile_stride + int64_t{next_} * kWarpThreads);
        for (int i = 0; i < kCodeSlots; ++i) {
          ptx::CopyLater<kPieceBytes>(Slot(stage, m * kCodeSlots + i), codes + i * kPieceBytes);
        }
      }
      for (int n = 0; n < kMaxRows; ++n) {
        if (n >= from_.num_rows) break;
        ptx::CopyLater<kSlotBytes>(
            Slot(stage, 2 * kCodeSlots + n),
            reinterpret_cast<const std::byte*>(from_.row + int64_t{n} * from_.row_stride +
                                               next_ * kStepInputs));
      }
    }
    ptx::CommitCopies();
    ++next_;
  }

  std::byte* memory_;
  Source from_;
  int next_ = 0;
  int end_ = 0;
  int stage_ = 0;  // of the current step
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_LANE_STEPS_H_
