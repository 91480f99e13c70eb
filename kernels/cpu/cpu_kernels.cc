#include "kernels/cpu/cpu_kernels.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/flush_denormals.h"

namespace orrery {
namespace {

// Multiply-adds below which a second thread is not worth its wake-up: some 20 microseconds.
constexpr int64_t kWorkPerPart = 1 << 21;
// Parts per thread, so that one that is held up does not hold up all.
constexpr int kPartsPerThread = 4;

// Multiply-adds in the time that a value takes from memory and to it.
constexpr int64_t kWorkPerValue = 32;

}  // namespace

CpuKernels::CpuKernels(const LaneKernels* lanes, const CpuThreads& threads)
    : lanes_(*lanes),
      pool_(threads.num_threads, threads.cpus),
      decoded_(threads.num_threads),
      attention_(threads.num_threads),
      gate_scores_(threads.num_threads),
      choices_(threads.num_threads) {}

CpuKernels::ScratchValues CpuKernels::ValuesOf(const ScratchLimits& limits) {
  // Rows that are prepared are padded by less than they have, but for very short ones; the last are read beyond
  // their end (matmul.cc).
  constexpr int kPadding = 64;
  constexpr int64_t kRowsReadBehind = 15;
  const auto prepared = [](const ScratchLimits::Products& products) {
    return (products.num_rows + products.num_weights + kRowsReadBehind) *
           (products.num_inputs + kPadding);
  };
  return {.prepared = 2 * std::max(prepared(limits.products), prepared(limits.down_products)),
          .gated = prepared(limits.down_products),
          .decoded = DecodedValues(
              std::max(limits.products.num_inputs, limits.down_products.num_inputs) + kPadding),
          .attend = static_cast<int64_t>(AttendScratchValues(limits.attend_dims))};
}

int64_t CpuKernels::DecodedValues(int64_t num_inputs) {
  return std::max<int64_t>(kMaxDecodedPanels * kVectorLanes * num_inputs,
                           sizeof(TileMemory) / sizeof(float));
}

size_t CpuKernels::ScratchBytes(const ScratchLimits& limits) const {
  const ScratchValues values = ValuesOf(limits);
  return sizeof(float) * (values.prepared + 2 * values.gated +
                          pool_.num_threads() * (values.decoded + values.attend));
}

absl::Status CpuKernels::ReserveScratch(const ScratchLimits& limits) {
  const ScratchValues values = ValuesOf(limits);
  ScratchLimits group = limits;
  group.products.num_rows = std::min(limits.products.num_rows, kGroupRows);
  group.down_products.num_rows = std::min(limits.down_products.num_rows, kGroupRows);
  const ScratchValues touched = ValuesOf(group);
  bool is_reserved = prepared_.Reserve(values.prepared, touched.prepared / 2) &&
                     gated_.Reserve(values.gated, touched.gated) &&
                     raised_.Reserve(values.gated, touched.gated);
  // Each thread touches its own.
  for (Scratch& decoded : decoded_) is_reserved = is_reserved && decoded.Reserve(values.decoded);
  for (Scratch& attend : attention_) is_reserved = is_reserved && attend.Reserve(values.attend);
  if (is_reserved) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for the ", ScratchBytes(limits), " bytes of scratch of the kernels"));
}

int CpuKernels::NumPartsWorth(int64_t work) const {
  if (pool_.num_threads() == 1) return 1;
  const int64_t most = kPartsPerThread * pool_.num_threads();
  return static_cast<int>(std::clamp<int64_t>(work / kWorkPerPart, 1, most));
}

void CpuKernels::Share(int64_t work, int num_units, RangeBody body) {
  const int num_parts = std::min(NumPartsWorth(work), std::max(num_units, 1));
  pool_.Run(num_parts, [&](int thread, int part) {
    const ScopedFlushDenormals flush;
    const auto border = [&](int64_t i) { return static_cast<int>(num_units * i / num_parts); };
    if (border(part) < border(part + 1)) body(thread, border(part), border(part + 1));
  });
}

void CpuKernels::ShareRows(int64_t num_rows, int64_t values_per_row,
                           absl::FunctionRef<void(int64_t begin, int64_t end)> body) {
  Share(num_rows * values_per_row * kWorkPerValue, static_cast<int>(num_rows),
        [&](int, int begin, int end) { body(begin, end); });
}

absl::StatusOr<std::unique_ptr<Kernels>> MakeCpuKernels(CpuVariant variant,
                                                        const CpuThreads& threads) {
  ASSIGN_OR_RETURN(const LaneKernels* lanes, LaneKernelsFor(variant));
  return std::make_unique<CpuKernels>(lanes, threads);
}

}  // namespace orrery
