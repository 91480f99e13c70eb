#include "tools/launch/child_process.h"

#include <csignal>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

absl::Time Patience() { return absl::Now() + absl::Seconds(30); }

class ChildProcessTest : public ::testing::Test {
 protected:
  std::unique_ptr<ChildProcess> Shell(const std::string& script) {
    auto child = ChildProcess::Start({"/bin/sh", "-c", script}, output_);
    EXPECT_TRUE(child.ok()) << child.status();
    return *std::move(child);
  }
  std::string Output() const {
    std::ifstream file(output_);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  const std::string output_ = absl::StrCat(
      ::testing::TempDir(), "/", ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(ChildProcessTest, CollectsOutputAndExitCode) {
  const auto child = Shell("echo out; echo err >&2; exit 3");
  const auto exit = child->WaitUntil(Patience());
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->ToString(), "exit code 3");
  EXPECT_EQ(Output(), "out\nerr\n");
}

TEST_F(ChildProcessTest, TellsTheSignalThatEndedIt) {
  const auto child = Shell("while :; do :; done");
  EXPECT_FALSE(child->Poll().has_value());
  child->Signal(SIGKILL);
  const auto exit = child->WaitUntil(Patience());
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->signal, SIGKILL);
  EXPECT_THAT(exit->ToString(), HasSubstr("signal 9"));
}

TEST_F(ChildProcessTest, GivesUpWaitingAtTheDeadline) {
  const auto child = Shell("while :; do :; done");
  EXPECT_FALSE(child->WaitUntil(absl::Now()).has_value());
}

TEST_F(ChildProcessTest, GetsNoInputAndUnblockedSignals) {
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto child = Shell("read line && echo got input; while :; do :; done");
  child->Signal(SIGTERM);
  const auto exit = child->WaitUntil(Patience());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->signal, SIGTERM);
  EXPECT_EQ(Output(), "");
}

TEST_F(ChildProcessTest, NamesAProgramThatCannotBeRun) {
  const auto child = ChildProcess::Start({"/nowhere/program"}, output_);
  EXPECT_EQ(child.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(child.status().message()), HasSubstr("/nowhere/program"));
  EXPECT_FALSE(ChildProcess::Start({"/bin/sh"}, "/nowhere/log").ok());
}

TEST_F(ChildProcessTest, DoesNotOutliveItsObject) {
  auto child = Shell("while :; do :; done");
  const pid_t pid = child->pid();
  child.reset();
  EXPECT_EQ(kill(pid, 0), -1);
}

}  // namespace
}  // namespace orrery
