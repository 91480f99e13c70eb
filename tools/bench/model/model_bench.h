// One run of `orrery bench model`: a whole model beside the roofline of its steps, and what the way
// between processes costs it.
//
//   ASSIGN_OR_RETURN(ModelBenchResult result, RunModelBench(options));
//
// Errors: those of the model, of the cluster and of its processes; UNIMPLEMENTED if nothing measures the ceiling
// of the kernels' variant, or for a model that step_work.h does not know.
#ifndef ORRERY_TOOLS_BENCH_MODEL_MODEL_BENCH_H_
#define ORRERY_TOOLS_BENCH_MODEL_MODEL_BENCH_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "tools/bench/kernels/kernel_figures.h"
#include "tools/bench/kernels/machine/machine_facts.h"
#include "tools/launch/launcher.h"
#include "tools/local_cluster.h"

namespace orrery {

struct ModelBenchOptions {
  std::string command;  // only noted
  // The model in one process, with one rank and one shard. Its num_threads are also the ceilings'.
  LocalClusterOptions cluster;
  std::vector<int> batches = {1, 8, 64};  // sequences that decode side by side
  int context_tokens = 128;               // of each, when they begin
  int num_steps = 24;                     // timed, of each round
  std::vector<int> prefills = {2048};     // tokens of a prompt, computed in one step
  int num_rounds = 3;
  // Two shards: as processes of their own, and within one process. 0 sequences: not measured.
  int exchange_batch = 8;
  Topology processes;  // the same model and numbers as `cluster`
  LaunchOptions launch;
  absl::Duration start_timeout;
  std::function<void(const std::string&)> on_progress;
};

struct ModelFigures {
  std::string phase;  // "decode", "prefill"
  int num_rows = 0;
  Spread seconds = {};         // of the step
  double least_seconds = 0.0;  // of its roofline, at the ceilings of the rounds
  double bytes = 0.0;
  double flops = 0.0;
  Spread share = {};  // least time over ours
};

struct ModelBenchResult {
  std::string command;
  std::string model_dir;
  std::string cluster;  // in words
  MachineFacts machine;
  int num_threads = 1;
  int num_layers = 0;
  Spread bytes_per_s;  // ceilings
  Spread flops_per_s;
  int64_t peak_bytes = 0;  // of this process's memory, after the figures
  std::vector<ModelFigures> figures;
  // Seconds per step with one rank and two shards: within one process over as processes; 0: not
  // measured.
  int exchange_batch = 0;
  Spread loopback_over_processes = {};
};

absl::StatusOr<ModelBenchResult> RunModelBench(const ModelBenchOptions& options);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_MODEL_MODEL_BENCH_H_
