// What one step costs, taken apart: the time of its kernels, the way to the experts and back, and what
// we add to both.
//
//   ASSIGN_OR_RETURN(StepCosts costs, MeasureStep(options));
//   costs.overhead()      // 1.18: the step takes 1.18 times kernels + exchanges * bare round trips
//
// All in one run, in turns, as medians: a step over gRPC with one shard, the same step without any way
// (direct_exchange.h), and a bare round trip of the same bytes on a stream (tools/bench/bare_stream).
#ifndef ORRERY_TOOLS_BENCH_STEP_STEP_BENCH_H_
#define ORRERY_TOOLS_BENCH_STEP_STEP_BENCH_H_

#include "absl/time/time.h"
#include "base/status.h"
#include "tools/local_cluster.h"

namespace orrery {

struct StepBenchOptions {
  LocalClusterOptions cluster;  // of one rank and one shard over gRPC; the topology is filled in
  int num_sequences = 1;        // each with one row: decoding
  int context_tokens = 128;
  int num_rounds = 200;
};

struct StepCosts {
  int num_exchanges = 0;  // per step
  absl::Duration step;
  absl::Duration kernels;
  absl::Duration round_trip;
  double overhead() const { return absl::FDivDuration(step, kernels + num_exchanges * round_trip); }
};

absl::StatusOr<StepCosts> MeasureStep(const StepBenchOptions& options);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_STEP_STEP_BENCH_H_
