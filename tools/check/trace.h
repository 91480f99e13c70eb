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

// Everything is by layer, then by row (position). The MTP module's layer, if it ran, is the last one:
// its row i stands at position i + 1.
struct Trace {
  std::vector<std::vector<float>> attention;  // [layers][num_rows * hidden] before the residual add
  std::vector<std::vector<float>> feed_forward;  // the same
  std::vector<std::vector<float>> hidden;        // residual stream after the layer
  std::map<int, Routing> routing;                // by MoE layer
  std::vector<std::vector<float>> cache;         // [layers][num_rows * kv_row_width], as stored
  std::vector<float> logits;                     // [num_rows * vocab]
  std::vector<float> mtp_logits;                 // [module's rows * vocab]
  bool operator==(const Trace&) const = default;
};

struct TraceRequest {
  std::vector<int32_t> ids;
  // Rows per step for the first num_prefill ids; the rest goes one by one. 0: all at once.
  int num_prefill = 0;
  int chunk_rows = 0;
  // For the MTP module: row i joins the hidden state of ids[i] with the next id, mtp_ids[i]. At most
  // ids.size(); empty: the module does not run.
  std::vector<int32_t> mtp_ids;
  // Rows of the module behind those: each joins its own output with the likeliest id by it.
  int num_chained_drafts = 0;
  // By MoE layer: experts [num_rows, topk], ascending within a row, to use instead of the gate's
  // choice. Rows beyond them, and layers that are not here, are left to the gate.
  std::map<int, std::vector<int32_t>> forced_experts;
};

absl::StatusOr<Trace> RunTrace(const StepParts& parts, const TraceRequest& request);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_TRACE_H_
