// One child process: started with its output in a file, watched, signalled, reaped.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> child,
//                    ChildProcess::Start({path, "--name=expert-0"}, "expert-0.log"));
//   std::optional<ExitResult> exit = child->WaitUntil(absl::Now() + absl::Seconds(5));
//
// The child gets a process group of its own (a Ctrl-C at the terminal reaches only us, who stop it
// in order), no standard input, and dies with the thread that started it, so that it never outlives
// us. Start children from the main thread, or from one that stays.
//
// Errors: NOT_FOUND, PERMISSION_DENIED or the like if the program or the file cannot be opened,
// naming it.
// Threads: one owner.
#ifndef ORRERY_TOOLS_LAUNCH_CHILD_PROCESS_H_
#define ORRERY_TOOLS_LAUNCH_CHILD_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"

namespace orrery {

struct ExitResult {
  int code = 0;    // if it exited
  int signal = 0;  // if a signal ended it, else 0
  // "exit code 1", "signal 9 (Killed)".
  std::string ToString() const;
};

class ChildProcess {
 public:
  // argv[0] is the path of the program. Standard output and error are appended to `output_path`.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(const std::vector<std::string>& argv,
                                                             const std::string& output_path);
  // Kills it if it still runs.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // How it ended; nothing while it runs.
  std::optional<ExitResult> Poll();
  std::optional<ExitResult> WaitUntil(absl::Time deadline);
  // No effect once it has ended.
  void Signal(int signal);

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}

  const pid_t pid_;
  std::optional<ExitResult> exit_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_LAUNCH_CHILD_PROCESS_H_
