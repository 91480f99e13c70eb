// One sequence after the other: what implementations without a better way do.
#include "kernels/row_places.h"

#include "kernels/kernels.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<RowPlaces>> Kernels::MakeRowPlaces(const RowPlaceLimits& limits) {
  return std::make_unique<RowPlaces>();
}

void Kernels::RopeBatch(Matrix x, int num_heads, int head_stride, const RowPlaces& places,
                        RopePairing pairing, const RopeTable& table) {
  for (const SequenceRows& rows : places.sequences()) {
    Rope(x.Rows(rows.row_begin, rows.num_rows), num_heads, head_stride, rows.first_position,
         pairing, table);
  }
}

void Kernels::AppendKvBatch(ConstMatrix kv, const KvCacheView& cache, const RowPlaces& places) {
  for (const SequenceRows& rows : places.sequences()) {
    AppendKv(kv.Rows(rows.row_begin + rows.num_cached_rows, rows.num_rows - rows.num_cached_rows),
             cache, rows.block_ids, rows.first_position + rows.num_cached_rows);
  }
}

void Kernels::AttendBatch(absl::Span<const AttendArgs> heads, const RowPlaces& places) {
  attends_.clear();
  for (const SequenceRows& rows : places.sequences()) {
    for (const AttendArgs& args : heads) {
      AttendArgs& one = attends_.emplace_back(args);
      one.q = args.q.Rows(rows.row_begin, rows.num_rows);
      one.out = args.out.Rows(rows.row_begin, rows.num_rows);
      one.block_ids = rows.block_ids;
      one.first_position = rows.first_position;
    }
  }
  Attend(attends_);
}

}  // namespace orrery
