// `orrery bench exchange`: what an exchange costs per layer over each transport. List kExchangeFlags
// among the flag files of the command.
#ifndef ORRERY_TOOLS_BENCH_EXCHANGE_EXCHANGE_COMMAND_H_
#define ORRERY_TOOLS_BENCH_EXCHANGE_EXCHANGE_COMMAND_H_

namespace orrery {

inline constexpr char kExchangeFlags[] = "tools/bench/exchange/exchange_command.cc";

// The exit code: 0 if the targets held, 2 for a wrong flag.
int RunBenchExchange();

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_EXCHANGE_EXCHANGE_COMMAND_H_
