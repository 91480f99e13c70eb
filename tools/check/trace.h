// One run of a sequence of known ids through a step, with everything inside it recorded.
//
//   ASSIGN_OR_RETURN(Trace trace, RunTrace(parts, {.ids = ids, .chunk_rows = 7}));
//   bool same = trace == other;     // bit for bit
#ifndef ORRERY_TOOLS_CHECK_TRACE_H_
#define ORRERY_TOOLS_CHECK_TRACE_H_

#include <cstdint>
#include <map>
#include <vector>

#include "base/status.h"
#include "services/attention/step.h"

namespace orrery {

// Experts [num_rows, topk] of one layer, ascending within a row, and their weights.
struct Routing {
  std::vector<int32_t> ids;
  std::vector<float> weights;
  bool operator==(const Routing&) const = default;
};

// Everything is by layer, then by row (position).
struct Trace {
  std::vector<std::vector<float>> attention;  // [layers][num_rows * hidden] before the residual add
  std::vector<std::vector<float>> feed_forward;  // the same
  std::vector<std::vector<float>> hidden;        // residual stream after the layer
  std::map<int, Routing> routing;                // by MoE layer
  std::vector<std::vector<float>> cache;         // [layers][num_rows * kv_row_width], as stored
  std::vector<float> logits;                     // [num_rows * vocab]
  bool operator==(const Trace&) const = default;
};

struct TraceRequest {
  std::vector<int32_t> ids;
  // Rows per step for the first num_prefill ids; the rest goes one by one. 0: all at once.
  int num_prefill = 0;
  int chunk_rows = 0;
  // By MoE layer: experts [ids.size(), topk], ascending within a row, to use instead of the gate's
  // choice. May be empty.
  std::map<int, std::vector<int32_t>> forced_experts;
};

absl::StatusOr<Trace> RunTrace(const StepParts& parts, const TraceRequest& request);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_TRACE_H_
