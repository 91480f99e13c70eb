#include "tools/demo_command.h"

#include <cstdio>
#include <memory>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/stop_signal.h"
#include "client/orrery_client.h"
#include "tools/answer_printer.h"
#include "tools/flags/cluster_flags.h"
#include "tools/flags/command_line.h"
#include "tools/launch/launcher.h"
#include "tools/ready_progress.h"
#include "tools/terminal.h"

// Of a kind that the bundled model was trained for, with operands that it was not: it has to
// calculate.
ABSL_FLAG(std::string, question,
          "Anna has 57 apples and buys 68 more. How many apples does Anna have?", "what to ask");

namespace orrery {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
constexpr absl::Duration kAnswerTimeout = absl::Minutes(2);

absl::Status Ask(const std::string& router, const std::string& question, Terminal& out) {
  ASSIGN_OR_RETURN(OrreryClient client, OrreryClient::Connect({router}, {}, kConnectTimeout));
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_messages()->add_message();
  message.set_role(v1::MESSAGE_ROLE_USER);
  message.set_content(question);
  out.Print("\n", out.Bold("question: "), question, "\n\n");
  AnswerPrinter printer(&out);
  const absl::Time begin = absl::Now();
  const absl::StatusOr<Answer> answer =
      client.Generate(request, kAnswerTimeout, [&](const v1::Delta& delta) {
        printer.Print(delta);
        return true;
      });
  printer.Finish();
  RETURN_IF_ERROR(answer.status());
  out.Print("\n", out.Dim(SpeedLine(answer->finished.usage().output_tokens(), absl::Now() - begin)),
            "\n");
  return absl::OkStatus();
}

absl::Status Demo(Terminal& out) {
  StopSignal stop;
  ASSIGN_OR_RETURN(const Topology topology, TopologyFromFlags());
  ASSIGN_OR_RETURN(const LaunchOptions options, LaunchOptionsFromFlags());
  ASSIGN_OR_RETURN(const std::unique_ptr<Launcher> launcher,
                   Launcher::StartLocal(topology, options));
  out.Print("a cluster of 1 router, ", topology.num_ranks, " attention ranks and ",
            topology.num_shards, " expert shards, as ", launcher->num_members(),
            " processes on this machine\n");
  ReadyProgress progress(&out);
  RETURN_IF_ERROR(launcher->WaitUntilReady(
      absl::GetFlag(FLAGS_start_timeout),
      [&](const v1::ClusterStatusResponse& status) { progress.Update(status); },
      [&] { return stop.WaitFor(absl::ZeroDuration()); }));
  const absl::Status asked = Ask(launcher->router_address(), absl::GetFlag(FLAGS_question), out);
  launcher->Stop();
  RETURN_IF_ERROR(asked);
  out.Print(
      "\nto go on: `orrery up` starts such a cluster and keeps it, `orrery chat` talks to it,\n",
      "`orrery help` lists the rest\n");
  return absl::OkStatus();
}

}  // namespace

int RunDemo(const std::vector<std::string>&) {
  Terminal out(stdout);
  const absl::Status status = Demo(out);
  if (status.ok()) return 0;
  out.ClearProgress();
  return Fail("demo", status);
}

}  // namespace orrery
