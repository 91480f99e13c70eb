// Where the rows of a batch stand, which all its layers have in common: told once a batch, before its
// first layer, instead of with every call.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<RowPlaces> places, kernels.MakeRowPlaces(limits));
//   places->Set(batch.spans);
//   kernels.AppendKvBatch(kv, cache, *places);               // of all sequences
//
// Work that was captured (device/device.h) for one batch may be replayed for any other of the same
// shape: it reads the places when it runs.
//
// It is not the cache, and not who has which block of it.
//
// Threads: those of the Kernels that made it, which outlive it.
#ifndef ORRERY_KERNELS_ROW_PLACES_H_
#define ORRERY_KERNELS_ROW_PLACES_H_

#include <compare>
#include <cstdint>

#include "absl/types/span.h"

namespace orrery {

// Consecutive rows of one sequence within a batch: row row_begin + i has position first_position + i.
struct SequenceRows {
  int row_begin = 0;
  int num_rows = 0;
  int first_position = 0;
  // Of the rows, how many stand in the cache already: their keys and values are not written again.
  // (The last token of a cached prefix is computed once more, for its hidden state.)
  int num_cached_rows = 0;
  absl::Span<const int32_t> block_ids;  // host memory; cover all positions up to the last row
};

// The longest that a batch can be.
struct RowPlaceLimits {
  int max_rows = 0;
  int max_positions = 0;  // of a sequence
};

// What captured work has fixed.
struct BatchShape {
  // Of the matrices: the batch's rows and, behind them, rows of nobody, which append nothing and attend
  // to nothing, whose results mean nothing. 0: work on this batch is not to be captured.
  int num_rows = 0;
  int num_cache_spans = 0;  // an implementation's measure of the longest context

  auto operator<=>(const BatchShape&) const = default;
};

class RowPlaces {
 public:
  virtual ~RowPlaces() = default;

  // The rows of all sequences cover the batch in order. They, and their block ids, must stay as they are
  // until the next Set.
  virtual void Set(absl::Span<const SequenceRows> sequences) { sequences_ = sequences; }
  absl::Span<const SequenceRows> sequences() const { return sequences_; }
  virtual BatchShape shape() const { return {}; }

 private:
  absl::Span<const SequenceRows> sequences_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_ROW_PLACES_H_
