// Where the rows of a batch stand, in memory of the device at addresses that stay, so that captured work
// finds the batch of the day.
//
//   [place of row 0] ... [place of row kMaxPlacedRows - 1] [block ids of all sequences]
//
// Batches of more rows have no shape, and are told call by call: there launches cost nothing beside the
// work. Shapes are rounded up, rows and spans of the cache to powers of two, so that there are few:
// up to 64 rows and 32,768 positions 7 * 6.
#ifndef ORRERY_KERNELS_CUDA_DEVICE_PLACES_H_
#define ORRERY_KERNELS_CUDA_DEVICE_PLACES_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/matrix.h"
#include "base/status.h"
#include "device/cuda/cuda_stream.h"
#include "device/device.h"
#include "kernels/cuda/staging.h"
#include "kernels/row_places.h"

namespace orrery {

inline constexpr int kMaxPlacedRows = 64;

struct RowPlace {
  int32_t position = -1;  // -1: a row of nobody
  int32_t first_block_id = 0;
  int32_t appends = 0;
};

// As kernels see it.
struct DevicePlaces {
  const RowPlace* rows = nullptr;  // [num_rows of the shape]
  const int32_t* block_ids = nullptr;
};

class CudaRowPlaces : public RowPlaces {
 public:
  // What Make takes of the device.
  static size_t NumBytes(const RowPlaceLimits& limits);
  static absl::StatusOr<std::unique_ptr<CudaRowPlaces>> Make(const RowPlaceLimits& limits,
                                                             Staging* staging, CudaStream* stream);

  void Set(absl::Span<const SequenceRows> sequences) override;
  BatchShape shape() const override { return shape_; }
  DevicePlaces on_device() const;

 private:
  CudaRowPlaces(const RowPlaceLimits& limits, Staging* staging, CudaStream* stream, Buffer memory)
      : limits_(limits), staging_(staging), stream_(stream), memory_(std::move(memory)) {}

  RowPlaceLimits limits_;
  Staging* staging_;
  CudaStream* stream_;
  Buffer memory_;
  BatchShape shape_;
  std::vector<RowPlace> rows_;
  std::vector<int32_t> block_ids_;
};

// The places of matrices that have the rows of their shape; null for a batch without one, and for
// matrices that were made for the batch as it is.
const CudaRowPlaces* PlacedRows(const RowPlaces& places, const ConstMatrix& rows);

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_DEVICE_PLACES_H_
