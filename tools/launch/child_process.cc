#include "tools/launch/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace orrery {
namespace {

constexpr absl::Duration kPollInterval = absl::Milliseconds(5);

// Runs in the child between fork and exec, where only calls that are safe in a signal handler are
// allowed: nothing here allocates. On failure errno goes through the pipe, which a successful exec
// closes.
[[noreturn]] void Become(char* const* argv, int output, int error_pipe, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // it died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int input = open("/dev/null", O_RDONLY);
  dup2(input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execv(argv[0], argv);
  const int error = errno;
  if (write(error_pipe, &error, sizeof(error)) < 0) _exit(126);
  _exit(127);
}

ExitResult FromWaitStatus(int status) {
  if (WIFSIGNALED(status)) return {.code = 0, .signal = WTERMSIG(status)};
  return {.code = WEXITSTATUS(status), .signal = 0};
}

}  // namespace

std::string ExitResult::ToString() const {
  if (signal != 0) return absl::StrCat("signal ", signal, " (", strsignal(signal), ")");
  return absl::StrCat("exit code ", code);
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::vector<std::string>& argv, const std::string& output_path) {
  const int output = open(output_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (output < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", output_path));
  int error_pipe[2];
  if (pipe2(error_pipe, O_CLOEXEC) != 0) {
    const int error = errno;
    close(output);
    return absl::ErrnoToStatus(error, "cannot make a pipe");
  }
  std::vector<char*> pointers;
  for (const std::string& argument : argv) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) Become(pointers.data(), output, error_pipe[1], parent);
  const int fork_error = errno;
  close(output);
  close(error_pipe[1]);
  int exec_error = 0;
  const ssize_t num_read = pid < 0 ? 0 : read(error_pipe[0], &exec_error, sizeof(exec_error));
  close(error_pipe[0]);
  if (pid < 0) return absl::ErrnoToStatus(fork_error, "cannot start a process");
  if (num_read == sizeof(exec_error)) {
    waitpid(pid, nullptr, 0);
    return absl::ErrnoToStatus(exec_error, absl::StrCat("cannot run ", argv[0]));
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid));
}

ChildProcess::~ChildProcess() {
  if (Poll().has_value()) return;
  Signal(SIGKILL);
  WaitUntil(absl::InfiniteFuture());  // nothing survives SIGKILL
}

std::optional<ExitResult> ChildProcess::Poll() {
  if (exit_.has_value()) return exit_;
  int status = 0;
  const pid_t reaped = waitpid(pid_, &status, WNOHANG);
  if (reaped == pid_) exit_ = FromWaitStatus(status);
  if (reaped < 0 && errno == ECHILD) exit_ = ExitResult{};  // somebody else reaped it
  return exit_;
}

std::optional<ExitResult> ChildProcess::WaitUntil(absl::Time deadline) {
  while (!Poll().has_value() && absl::Now() < deadline) absl::SleepFor(kPollInterval);
  return exit_;
}

void ChildProcess::Signal(int signal) {
  if (!Poll().has_value()) kill(pid_, signal);
}

}  // namespace orrery
