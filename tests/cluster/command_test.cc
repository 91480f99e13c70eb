// The orrery command as a shell sees it: what it prints and how it exits.
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/cluster_test_util.h"
#include "tools/launch/child_process.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kHere[] = " --bin_dir=. --model=models/abacus";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Ran {
  int code = -1;
  std::string output;  // both streams
};

// One line of shell, in which $orrery is the command.
Ran Shell(const std::string& line) {
  static int num_runs = 0;
  const std::string log = absl::StrCat(::testing::TempDir(), "/run-", num_runs++, ".log");
  const auto child =
      ChildProcess::Start({"/bin/sh", "-c", absl::StrCat("orrery=tools/orrery; ", line)}, log);
  EXPECT_TRUE(child.ok()) << child.status();
  const auto exit = (*child)->WaitUntil(absl::Now() + kPatience);
  EXPECT_TRUE(exit.has_value()) << line;
  return {exit.has_value() && exit->signal == 0 ? exit->code : -1, ReadFile(log)};
}

TEST(Command, DemoShowsThinkingAnswerAndSpeed) {
  const Ran ran = Shell(absl::StrCat("$orrery demo", kHere));
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.output,
              AllOf(HasSubstr("7 processes"), HasSubstr("expert-3 "), HasSubstr("[thinking] 57+68"),
                    HasSubstr("125 apples"), HasSubstr("tokens/s"), HasSubstr("orrery chat")));
}

TEST(Command, WrongCommandLinesExitWithTwoAndSayWhatIsWrong) {
  for (const auto& [line, expected] : {std::pair{"$orrery dmeo", "unknown command \"dmeo\""},
                                       {"$orrery up --rank=2", "unknown flag --rank=2"},
                                       {"$orrery chat --ranks=2", "unknown flag --ranks=2"},
                                       {"$orrery up --ranks=two", "--ranks cannot be \"two\""},
                                       {"$orrery generate --logit_bias=7", "not ID:VALUE"},
                                       {"$orrery generate --stop='\\x'", "means nothing"},
                                       {"$orrery status now", "takes no argument \"now\""}}) {
    const Ran ran = Shell(line);
    EXPECT_EQ(ran.code, 2) << line;
    EXPECT_THAT(ran.output, HasSubstr(expected));
  }
}

TEST(Command, HelpListsTheCommandsAndTheirFlags) {
  const Ran help = Shell("$orrery help");
  EXPECT_EQ(help.code, 0);
  for (const char* command :
       {"demo", "up", "chat", "generate", "status", "check", "eval", "bench"}) {
    EXPECT_THAT(help.output, HasSubstr(absl::StrCat("\n  ", command, " ")));
  }
  EXPECT_THAT(Shell("$orrery up --help").output,
              AllOf(HasSubstr("--ranks=2"), HasSubstr("--shards=4")));
}

TEST(Command, FailuresExitWithOneAndValuesThatCannotBeWithTwo) {
  const Ran no_model = Shell("$orrery up --model=/nowhere");
  EXPECT_EQ(no_model.code, 1);
  EXPECT_THAT(no_model.output, HasSubstr("/nowhere"));
  const Ran no_router = Shell("$orrery status --router=127.0.0.1:1");
  EXPECT_EQ(no_router.code, 1);
  EXPECT_THAT(no_router.output, HasSubstr("no router answers at 127.0.0.1:1"));
  const Ran bad_value = Shell(absl::StrCat("$orrery up --precision=fp4", kHere));
  EXPECT_EQ(bad_value.code, 2);
  EXPECT_THAT(bad_value.output, HasSubstr("bf16, f32"));
  const Ran bad_limit = Shell(absl::StrCat("$orrery up --draft_tokens=5", kHere));
  EXPECT_EQ(bad_limit.code, 2);
  EXPECT_THAT(bad_limit.output, HasSubstr("num_draft_tokens is 5, must be 0 to 4"));
}

TEST(Command, TalksToARunningCluster) {
  const auto cluster = StartReady(AbacusTopology(1, 1));
  ASSERT_NE(cluster, nullptr);
  const std::string router = absl::StrCat(" --router=", cluster->router_address());

  const Ran status = Shell(absl::StrCat("$orrery status", router));
  EXPECT_EQ(status.code, 0);
  EXPECT_THAT(status.output, AllOf(HasSubstr("attention-0"), HasSubstr("64 experts")));

  // The answer alone on standard output.
  const std::string ask = absl::StrCat("$orrery generate", router, " --prompt='What is 9 + 4?'");
  EXPECT_EQ(Shell(absl::StrCat(ask, " 2>/dev/null")).output, "13\n");
  EXPECT_EQ(
      Shell(absl::StrCat("echo 'What is 9 + 4?' | $orrery generate 2>/dev/null", router)).output,
      "13\n");
  EXPECT_THAT(Shell(absl::StrCat(ask, " --json")).output,
              AllOf(HasSubstr("\"content\":\"\\n13\""), HasSubstr("\"finish_reason\":\"stop\"")));
  EXPECT_EQ(Shell(absl::StrCat("$orrery generate --prompt=''", router)).code, 2);

  // Of several routers, whichever is there.
  EXPECT_EQ(Shell(absl::StrCat("$orrery generate --prompt='What is 9 + 4?' 2>/dev/null",
                               " --router=127.0.0.1:1,", cluster->router_address()))
                .output,
            "13\n");

  // Several choices stand apart, and the router's reasons are passed on.
  EXPECT_THAT(Shell(absl::StrCat(ask, " --num_choices=2 2>/dev/null")).output,
              AllOf(HasSubstr("[choice 0]\n13\n"), HasSubstr("[choice 1]\n13\n")));
  EXPECT_THAT(Shell(absl::StrCat(ask, " --num_choices=2 --json --top_logprobs=1")).output,
              AllOf(HasSubstr("\"choices\":[{"), HasSubstr("\"top_logprobs\":[[{")));
  EXPECT_THAT(Shell(absl::StrCat(ask, " --stop='x,\\n' --json")).output,
              AllOf(HasSubstr("\"content\":\"\""), HasSubstr("\"stop_string\":\"\\n\"")));
  const Ran refused = Shell(absl::StrCat(ask, " --top_p=7"));
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.output, HasSubstr("top_p is 7, must be 0 to 1"));

  // The conversation is kept, and an error does not end it.
  const Ran chat = Shell(absl::StrCat(
      "printf 'What is 50 + 40?\\n\\377\\nNow add 5.\\n/quit\\nnever'", " | $orrery chat", router));
  EXPECT_EQ(chat.code, 0);
  EXPECT_THAT(chat.output, AllOf(HasSubstr("\n90\n"), HasSubstr("error: "), HasSubstr("UTF-8"),
                                 HasSubstr("\n95\n"), Not(HasSubstr("never"))));
}

TEST(Command, UpRunsUntilItIsAskedToStop) {
  const std::string folder = ::testing::TempDir();
  // Bounded, so that a failure does not hang; the signal comes when it says that it is ready.
  const Ran ran = Shell(absl::StrCat(
      "mkfifo ", folder, "/up.fifo; ",
      "timeout 100 $orrery up --ranks=1 --shards=2 --router_file=", folder, "/router", kHere, " > ",
      folder, "/up.fifo 2>&1 & ", "while read line; do echo \"$line\"; case $line in ready*) ",
      "$orrery status --router_file=", folder, "/router; kill -INT $!;; esac; done < ", folder,
      "/up.fifo; wait $!; echo code $?"));
  EXPECT_THAT(ran.output, AllOf(HasSubstr("ready: router at 127.0.0.1:"), HasSubstr("attention-0"),
                                HasSubstr("stopping"), HasSubstr("code 0")));
}

}  // namespace
}  // namespace orrery
