// A golden model case: a checkpoint folder whose golden.json holds what the official code computes from it; run on ranks
// that somebody else made, and compared.
//
//   ASSIGN_OR_RETURN(const GoldenRun run, GoldenRun::Open(golden, {.numerics = numerics}));
//   ... ranks with golden.dir(), run.with_mtp() and run.num_positions() ...
//   RETURN_IF_ERROR(run.Check(ranks, report));
//
// Tolerances are those of the goldens' own README: with f32 activations every array, id and expert
// set; with bf16 the logits only (root mean square over the positions whose experts are the golden
// ones; over all when they are forced). The MTP module is run and compared where the golden has it.
#ifndef ORRERY_TOOLS_CHECK_GOLDEN_RUN_H_
#define ORRERY_TOOLS_CHECK_GOLDEN_RUN_H_

#include "absl/types/span.h"
#include "base/status.h"
#include "checkpoint/model_config.h"
#include "model/numerics.h"
#include "services/attention/step.h"
#include "tools/check/golden_file.h"
#include "tools/check/golden_model.h"
#include "tools/check/report.h"
#include "tools/check/trace.h"

namespace orrery {

struct GoldenRunOptions {
  Numerics numerics;
  bool force_routing = false;  // replace the gate's choice by the golden one
};

class GoldenRun {
 public:
  // The golden must outlive it. INVALID_ARGUMENT for one that does not fit its model or the options.
  static absl::StatusOr<GoldenRun> Open(const GoldenFile& golden, const GoldenRunOptions& options);

  const ModelConfig& config() const { return config_; }
  // What ranks and shards need to have.
  bool with_mtp() const { return expected_.has_mtp(); }
  int num_positions() const;

  // Runs the case on every rank at once, whole, in chunks of 7 and token by token: all must agree bit
  // for bit, and the result with the golden. Errors are for what could not be run at all.
  absl::Status Check(absl::Span<const StepParts> ranks, Report& report) const;

 private:
  GoldenRun(const GoldenFile* golden, const GoldenRunOptions& options)
      : golden_(golden), options_(options) {}

  const GoldenFile* golden_;
  GoldenRunOptions options_;
  ModelConfig config_;
  GoldenModel expected_;
  TraceRequest request_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_GOLDEN_RUN_H_
