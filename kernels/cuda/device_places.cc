#include "kernels/cuda/device_places.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "kernels/cuda/attention_jobs.h"

namespace orrery {
namespace {

constexpr size_t kRowsBytes = kMaxPlacedRows * sizeof(RowPlace);

int NumUnitsOf(int unit, int num) { return (num + unit - 1) / unit; }
int RoundUpToPower(int num) { return static_cast<int>(std::bit_ceil(static_cast<unsigned>(num))); }

}  // namespace

size_t CudaRowPlaces::NumBytes(const RowPlaceLimits& limits) {
  const size_t max_sequences = std::min(limits.max_rows, kMaxPlacedRows);
  const size_t num_ids = max_sequences * NumUnitsOf(kKvBlockTokens, limits.max_positions);
  return ReservedBytes(kRowsBytes + num_ids * sizeof(int32_t));
}

absl::StatusOr<std::unique_ptr<CudaRowPlaces>> CudaRowPlaces::Make(const RowPlaceLimits& limits,
                                                                   Staging* staging,
                                                                   CudaStream* stream) {
  ASSIGN_OR_RETURN(Buffer memory, stream->device().Allocate(NumBytes(limits), MemoryKind::kDevice));
  return std::unique_ptr<CudaRowPlaces>(
      new CudaRowPlaces(limits, staging, stream, std::move(memory)));
}

void CudaRowPlaces::Set(absl::Span<const SequenceRows> sequences) {
  RowPlaces::Set(sequences);
  shape_ = {};
  int num_rows = 0, num_positions = 1;
  for (const SequenceRows& rows : sequences) {
    num_rows += rows.num_rows;
    num_positions = std::max(num_positions, rows.first_position + rows.num_rows);
  }
  ORRERY_CHECK(num_rows <= limits_.max_rows && num_positions <= limits_.max_positions)
      << num_rows << " rows of " << limits_.max_rows << ", " << num_positions << " positions of "
      << limits_.max_positions;
  if (num_rows == 0 || num_rows > kMaxPlacedRows) return;
  // Not beyond what there can be, which matrices have room for.
  shape_.num_rows = std::min({RoundUpToPower(num_rows), kMaxPlacedRows, limits_.max_rows});
  shape_.num_cache_spans = std::min(RoundUpToPower(NumUnitsOf(kSpanTokens, num_positions)),
                                    NumUnitsOf(kSpanTokens, limits_.max_positions));

  rows_.assign(shape_.num_rows, RowPlace());
  block_ids_.clear();
  for (const SequenceRows& rows : sequences) {
    const int num_blocks = NumUnitsOf(kKvBlockTokens, rows.first_position + rows.num_rows);
    for (int i = 0; i < rows.num_rows; ++i) {
      rows_[rows.row_begin + i] = {.position = rows.first_position + i,
                                   .first_block_id = static_cast<int32_t>(block_ids_.size()),
                                   .appends = i >= rows.num_cached_rows};
    }
    block_ids_.insert(block_ids_.end(), rows.block_ids.begin(),
                      rows.block_ids.begin() + num_blocks);
  }
  const size_t rows_bytes = rows_.size() * sizeof(RowPlace);
  const size_t ids_bytes = block_ids_.size() * sizeof(int32_t);
  ORRERY_CHECK(kRowsBytes + ids_bytes <= memory_.num_bytes())
      << block_ids_.size() << " block ids in " << memory_.num_bytes() << " bytes";
  staging_->Reserve(rows_bytes + ids_bytes + 2 * kStagingAlignment);
  stream_->CopyOnDevice(memory_.data(), staging_->Put(absl::MakeConstSpan(rows_)), rows_bytes);
  stream_->CopyOnDevice(memory_.as<std::byte>() + kRowsBytes,
                        staging_->Put(absl::MakeConstSpan(block_ids_)), ids_bytes);
}

DevicePlaces CudaRowPlaces::on_device() const {
  return {.rows = memory_.as<const RowPlace>(),
          .block_ids = reinterpret_cast<const int32_t*>(memory_.as<std::byte>() + kRowsBytes)};
}

const CudaRowPlaces* PlacedRows(const RowPlaces& places, const ConstMatrix& rows) {
  const auto* const own = dynamic_cast<const CudaRowPlaces*>(&places);
  ORRERY_CHECK(own != nullptr) << "places of another implementation";
  return rows.num_rows > 0 && rows.num_rows == own->shape().num_rows ? own : nullptr;
}

}  // namespace orrery
