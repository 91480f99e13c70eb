#include "services/attention/micro_batches.h"

#include <algorithm>

namespace orrery {

Batch RowsOf(const Batch& batch, int begin, int end) {
  Batch part = {.ids = {batch.ids.begin() + begin, batch.ids.begin() + end},
                .spans = {},
                .logit_rows = {},
                .lane = batch.lane,
                .expert_timeout = batch.expert_timeout,
                .abandoned = batch.abandoned};
  for (const SequenceRows& span : batch.spans) {
    const int span_begin = std::max(begin, span.row_begin);
    const int span_end = std::min(end, span.row_begin + span.num_rows);
    if (span_begin >= span_end) continue;
    const int num_before = span_begin - span.row_begin;
    part.spans.push_back(
        {.row_begin = span_begin - begin,
         .num_rows = span_end - span_begin,
         .first_position = span.first_position + num_before,
         .num_cached_rows = std::clamp(span.num_cached_rows - num_before, 0, span_end - span_begin),
         .block_ids = span.block_ids});
  }
  for (const int32_t row : batch.logit_rows) {
    if (row >= begin && row < end) part.logit_rows.push_back(row - begin);
  }
  return part;
}

}  // namespace orrery
