#include "tools/bench/step/step_command.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/bench/step/step_bench.h"
#include "tools/flags/command_line.h"
#include "tools/flags/local_flags.h"

namespace orrery {
namespace {

// A step of one sequence may take this much of what its kernels and the bare way take.
constexpr double kMaxOverhead = 1.25;

absl::StatusOr<double> MeasureAndPrint(StepBenchOptions options, int num_sequences) {
  options.num_sequences = num_sequences;
  ASSIGN_OR_RETURN(const StepCosts costs, MeasureStep(options));
  const auto us = [](absl::Duration time) { return absl::ToDoubleMicroseconds(time); };
  std::fputs(absl::StrFormat("%9d  %8.0f us  %8.0f us  %4d x %5.0f us  %10.3f\n", num_sequences,
                             us(costs.step), us(costs.kernels), costs.num_exchanges,
                             us(costs.round_trip), costs.overhead())
                 .c_str(),
             stdout);
  return costs.overhead();
}

absl::StatusOr<bool> Bench() {
  StepBenchOptions options;
  RETURN_IF_ERROR(
      AllowOnly("bench step", {"backend", "cpu_variant", "ffn_products", "ffn_weights", "gpus",
                               "linear_weights", "model", "precision", "row_format"}));
  ASSIGN_OR_RETURN(options.cluster, LocalClusterFromFlags(Precision::kBf16));
  std::fputs(
      "one decoding step of one rank with one shard over gRPC, contexts of 128 tokens; medians of "
      "one run\n"
      "sequences         step      kernels       exchanges    step / (kernels + exchanges)\n",
      stdout);
  ASSIGN_OR_RETURN(const double overhead, MeasureAndPrint(options, 1));
  RETURN_IF_ERROR(MeasureAndPrint(options, 32).status());
  std::fputs(
      "\nkernels    the same step with the shard's work done by the rank's own thread\n"
      "exchanges  per step, and a bare round trip of the same bytes on an open gRPC stream\n\n",
      stdout);
  const bool held = overhead <= kMaxOverhead;
  std::fputs(absl::StrFormat("%s  a step of one sequence takes %.3f times its kernels and bare "
                             "round trips (target: at most %.2f)\n",
                             held ? "held  " : "MISSED", overhead, kMaxOverhead)
                 .c_str(),
             stdout);
  return held;
}

}  // namespace

int RunBenchStep() {
  const absl::StatusOr<bool> held = Bench();
  if (!held.ok()) {
    return Fail("bench step", held.status());
  }
  return *held ? 0 : 1;
}

}  // namespace orrery
