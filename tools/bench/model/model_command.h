// `orrery bench model`.
#ifndef ORRERY_TOOLS_BENCH_MODEL_MODEL_COMMAND_H_
#define ORRERY_TOOLS_BENCH_MODEL_MODEL_COMMAND_H_

namespace orrery {

inline constexpr char kModelFlags[] = "tools/bench/model/model_command.cc";

// The exit code: 0 if every target held.
int RunBenchModel();

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_MODEL_MODEL_COMMAND_H_
