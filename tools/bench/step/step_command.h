// `orrery bench step`: what one decoding step costs, at 1 sequence and at many.
#ifndef ORRERY_TOOLS_BENCH_STEP_STEP_COMMAND_H_
#define ORRERY_TOOLS_BENCH_STEP_STEP_COMMAND_H_

namespace orrery {

// The exit code: 0 if the target held, 2 for a wrong flag.
int RunBenchStep();

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_STEP_STEP_COMMAND_H_
