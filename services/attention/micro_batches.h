// A batch's rows in two parts that are computed in turns: while the experts have the rows of one, the attention of
// the other goes on.
//
//   Batch first = RowsOf(batch, 0, 130), second = RowsOf(batch, 130, 260);
//
// A sequence may lie in both: its later rows attend to the earlier ones, whose keys and values each layer of the
// first part appends before.
#ifndef ORRERY_SERVICES_ATTENTION_MICRO_BATCHES_H_
#define ORRERY_SERVICES_ATTENTION_MICRO_BATCHES_H_

#include "services/attention/batch.h"

namespace orrery {

// Rows [begin, end) of the batch, counted from 0. Its spans point at the block ids that those of `batch` do.
Batch RowsOf(const Batch& batch, int begin, int end);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_MICRO_BATCHES_H_
