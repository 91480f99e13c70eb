// The orrery command: everything that people do with a cluster.
//
//   orrery COMMAND [--flag=value ...]
//
// Exit codes: 0 done, 1 failed (one message on stderr), 2 wrong command line.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/heap.h"
#include "base/log.h"
#include "tools/bench/exchange/exchange_command.h"
#include "tools/bench/kernels/kernels_command.h"
#include "tools/bench/model/model_command.h"
#include "tools/bench/serve_flags.h"
#include "tools/bench_command.h"
#include "tools/certs_command.h"
#include "tools/chaos_command.h"
#include "tools/chat_command.h"
#include "tools/check_command.h"
#include "tools/demo_command.h"
#include "tools/eval_command.h"
#include "tools/flags/cluster_flags.h"
#include "tools/flags/command_line.h"
#include "tools/flags/connect.h"
#include "tools/flags/local_flags.h"
#include "tools/flags/out_flag.h"
#include "tools/flags/sampling_flags.h"
#include "tools/flags/scenario_flags.h"
#include "tools/flags/seed_flag.h"
#include "tools/flags/tls_flags.h"
#include "tools/generate_command.h"
#include "tools/pack_command.h"
#include "tools/simulate_command.h"
#include "tools/status_command.h"
#include "tools/up_command.h"

namespace orrery {
namespace {

struct Command {
  std::string name;
  std::string summary;
  // Returns the exit code.
  int (*run)(const std::vector<std::string>& arguments);
  // Sources whose flags it takes.
  std::vector<std::string> flag_files;
  // Of the arguments that are no flags; empty if it takes none.
  std::string arguments;
};

// A new command is a file of its own and a row here.
std::vector<Command> Commands() {
  return {
      {"demo",
       "start a whole cluster on this machine, ask it one question, stop it again",
       RunDemo,
       {kClusterFlags, "tools/demo_command.cc"},
       ""},
      {"up",
       "start a cluster in the foreground; Ctrl-C stops it",
       RunUp,
       {kClusterFlags, kConnectFlags, kTlsFlags, "tools/up_command.cc"},
       ""},
      {"chat",
       "talk to a running cluster",
       RunChat,
       {kConnectFlags, kTlsFlags, kSamplingFlags, kSeedFlag, "tools/chat_command.cc"},
       ""},
      {"generate",
       "one answer from a running cluster",
       RunGenerate,
       {kConnectFlags, kTlsFlags, kSamplingFlags, kSeedFlag, "tools/generate_command.cc"},
       ""},
      {"pack",
       "make a model ready to read, so that its members start at the speed of the disk",
       RunPack,
       {kClusterFlags, kOutFlag, "tools/pack_command.cc"},
       ""},
      {"status", "who is there, and how they are", RunStatus, {kConnectFlags, kTlsFlags}, ""},
      {"certs",
       "make a development CA and a certificate for each role, or renew these",
       RunCerts,
       {kOutFlag, kTlsFlags, "tools/certs_command.cc"},
       ""},
      {"eval",
       "ask every problem of a file, and score the answers",
       RunEval,
       {kClusterFlags, kConnectFlags, kTlsFlags, kLocalFlags, "tools/eval_command.cc"},
       "FILE.jsonl"},
      {"check",
       "compare golden folders with what this build computes, or one model's answers under many "
       "settings",
       RunCheck,
       {kClusterFlags, kLocalFlags, kSamplingFlags, kSeedFlag, "tools/check_command.cc"},
       "golden DIR... | invariance"},
      {"bench",
       "put load on a cluster and measure it, take one step apart, or measure a model, the "
       "kernels, "
       "the exchange or the loading of weights",
       RunBench,
       {kServeFlags, kKernelsFlags, kModelFlags, kExchangeFlags, kClusterFlags, kLocalFlags,
        kConnectFlags, kTlsFlags, kSamplingFlags, kScenarioFlags, kSeedFlag},
       "serve | step | kernels | model | exchange | loading"},
      {"chaos",
       "harm a cluster under load again and again; every answer must be the undisturbed one",
       RunChaosCommand,
       {kClusterFlags, kScenarioFlags, kSeedFlag, "tools/chaos_command.cc"},
       ""},
      {"simulate",
       "router, scheduler and exchange through random faults in virtual time",
       RunSimulate,
       {kSeedFlag, "tools/simulate_command.cc"},
       ""},
  };
}

std::string Usage() {
  std::string usage = "orrery COMMAND [--flag=value ...]\n\n";
  for (const Command& command : Commands()) {
    absl::StrAppendFormat(&usage, "  %-10s %s\n", command.name, command.summary);
  }
  return absl::StrCat(usage, "\n`orrery COMMAND --help` lists the flags of a command.\n");
}

std::string Help(const Command& command) {
  const std::string flags = FlagsHelp(command.flag_files);
  return absl::StrCat("orrery ", command.name, " [--flag=value ...]",
                      command.arguments.empty() ? "" : " ", command.arguments, "\n\n",
                      command.summary, "\n", flags.empty() ? "" : "\n", flags);
}

int WrongCommandLine(const std::string& message) {
  std::fprintf(stderr, "orrery: %s\n", message.c_str());
  return 2;
}

int Main(const std::vector<std::string>& arguments) {
  const std::string name = arguments.empty() ? "help" : arguments[0];
  if (name == "help" || name == "--help" || name == "-h") {
    std::fputs(Usage().c_str(), stdout);
    return 0;
  }
  const std::vector<Command> commands = Commands();
  const auto command = std::find_if(commands.begin(), commands.end(),
                                    [&](const Command& known) { return known.name == name; });
  if (command == commands.end()) {
    return WrongCommandLine(
        absl::StrCat("unknown command \"", name, "\"; `orrery help` lists the known ones"));
  }
  const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  for (const std::string& argument : rest) {
    if (argument != "--help" && argument != "-h") continue;
    std::fputs(Help(*command).c_str(), stdout);
    return 0;
  }
  const absl::StatusOr<std::vector<std::string>> positional = ParseFlags(rest, command->flag_files);
  if (!positional.ok()) {
    return WrongCommandLine(absl::StrCat(positional.status().message(), "; `orrery ", name,
                                         " --help` lists the flags"));
  }
  if (command->arguments.empty() && !positional->empty()) {
    return WrongCommandLine(
        absl::StrCat("`orrery ", name, "` takes no argument \"", positional->front(), "\""));
  }
  return command->run(*positional);
}

}  // namespace
}  // namespace orrery

int main(int argc, char** argv) {
  orrery::KeepFreedMemory();
  orrery::SetLogQuiet();
  return orrery::Main(std::vector<std::string>(argv + 1, argv + argc));
}
