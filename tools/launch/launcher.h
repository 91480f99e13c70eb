// A whole cluster as child processes of this one: started, waited for, watched, stopped.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Launcher> launcher,
//                    Launcher::StartLocal({.model_dir = dir, .num_ranks = 2}, {}));
//   RETURN_IF_ERROR(launcher->WaitUntilReady(absl::Seconds(60), show_progress));
//   OrreryClient::Connect({launcher->router_address()}, ...);
//   launcher->Kill("expert-1", SIGKILL);      // for fault tests
//   launcher->Restart("expert-1");
//   launcher->Stop();
//
// The programs `router`, `attention` and `expert` are looked for in bin_dir, else beside this
// program. Output of the members and, unless one is given, the cluster file go into a temporary
// folder, which is kept if something went wrong.
//
// Errors of WaitUntilReady name the member: ABORTED if it ended, with how, after how long, and the
// last lines of its output; DEADLINE_EXCEEDED if it never came up, with what it lacks.
// Threads: one owner, the thread that started it (see child_process.h).
#ifndef ORRERY_TOOLS_LAUNCH_LAUNCHER_H_
#define ORRERY_TOOLS_LAUNCH_LAUNCHER_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "client/orrery_client.h"
#include "proto/member.pb.h"
#include "rpc/cluster_file.h"
#include "tools/launch/child_process.h"
#include "tools/launch/topology.h"

namespace orrery {

struct LaunchOptions {
  // Folder with the programs, flat or as Bazel lays them out (services/ROLE/ROLE). Empty: beside
  // this program.
  std::string bin_dir;
  // Parent of the temporary folder; empty: the system's.
  std::string temp_dir;
  // Further flags of the attention and expert programs, like "--cpu_variant=avx2".
  std::vector<std::string> compute_flags;
  // Port of 127.0.0.1 where the first member answers probes and scrapes (rpc/monitoring/README.md), each further
  // one of the cluster file at the next; 0: each at a free one, -1: none does.
  int monitoring_port = -1;
  // Names of members that are left out, as if their machine were missing.
  std::set<std::string> left_out;
  // The cluster as members of a role see it, if not as it is: a proxy in place of a peer, say. For
  // StartCluster.
  std::map<internal::Role, internal::ClusterFile> seen_by;
};

class Launcher {
 public:
  // How far it is: the router's view, or, before it answers, "starting" for everyone.
  using OnProgress = std::function<void(const v1::ClusterStatusResponse&)>;

  static absl::StatusOr<std::unique_ptr<Launcher>> StartLocal(const Topology& topology,
                                                              const LaunchOptions& options);
  // With a resume key of its own, if the cluster has none.
  static absl::StatusOr<std::unique_ptr<Launcher>> StartCluster(internal::ClusterFile cluster,
                                                                const LaunchOptions& options);
  // Starts the members of the file whose addresses are on this machine.
  static absl::StatusOr<std::unique_ptr<Launcher>> StartFile(const std::string& cluster_path,
                                                             const LaunchOptions& options);
  // Kills whatever still runs.
  ~Launcher();

  // Until every member of the cluster is ready, of spares those that run here, at most `timeout` after the last
  // one was started.
  // `on_progress` may be empty; `should_stop`, if given, ends the wait with CANCELLED.
  absl::Status WaitUntilReady(absl::Duration timeout, const OnProgress& on_progress = {},
                              const std::function<bool()>& should_stop = {});

  // OK while all members run, else ABORTED for the first that ended and was not told of before. A spare that
  // was asked to go, and went well, is none.
  absl::Status CheckAlive();
  // Whether a router of ours still runs.
  bool HasRouter();

  // Orderly: SIGTERM, routers first, then ranks, then shards; SIGKILL for who does not go in time.
  // Idempotent.
  void Stop();

  // For fault tests. NOT_FOUND for a name that was not started.
  absl::Status Kill(const std::string& name, int signal);
  // Starts a member again that has ended, as it was started first, and with these flags beside.
  // FAILED_PRECONDITION while it runs.
  absl::Status Restart(const std::string& name, const std::vector<std::string>& flags = {});
  // How a member ended; waits at most until the deadline.
  std::optional<ExitResult> WaitForExit(const std::string& name, absl::Time deadline);
  // host:port where it answers probes and scrapes, as it said last; empty while it has not.
  std::string MonitoringAddress(const std::string& name) const;
  // What it wrote so far, in all its lives; the last lines of it, indented.
  std::string Output(const std::string& name) const;
  std::string LastOutput(const std::string& name) const;

  const internal::ClusterFile& cluster() const { return cluster_; }
  // The file that it was read from.
  const std::string& cluster_path() const { return cluster_path_; }
  const std::string& router_address() const { return cluster_.router(0).address(); }
  int num_members() const { return static_cast<int>(members_.size()); }
  // Where output and cluster file are.
  const std::string& folder() const { return folder_; }

 private:
  struct Member {
    internal::Role role;
    std::string name;
    std::vector<std::string> argv;
    std::string output_path;
    std::unique_ptr<ChildProcess> process;
    bool is_spare = false;
    bool end_was_told = false;
  };

  Launcher() = default;
  absl::Status MakeFolder(const LaunchOptions& options);
  // `paths`: the cluster file for a role, if not the one at `cluster_path`.
  absl::Status StartMembers(const std::string& cluster_path,
                            const std::map<internal::Role, std::string>& paths,
                            const LaunchOptions& options);
  // The router's view, if it answers.
  std::optional<v1::ClusterStatusResponse> AskRouter(absl::Duration patience);
  v1::ClusterStatusResponse EveryoneStarting() const;
  // Empty if everyone is ready who should be.
  std::vector<std::string> WhoIsNotReady(const v1::ClusterStatusResponse& status);
  Member* Find(const std::string& name);

  internal::ClusterFile cluster_;
  std::string cluster_path_;
  std::string folder_;
  bool keep_folder_ = false;
  absl::Time started_at_;
  std::vector<Member> members_;
  std::optional<OrreryClient> client_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_LAUNCH_LAUNCHER_H_
