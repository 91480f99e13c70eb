#include "tools/launch/launcher.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "rpc/cluster_tls.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kPollInterval = absl::Milliseconds(50);
// Beyond the time to drain (limits.drain_ms): members then give open calls 5 s to end, and who takes longer is
// slow, not busy.
constexpr absl::Duration kStopPatience = absl::Seconds(8);
constexpr int kTailLines = 10;

absl::StatusOr<std::string> FindProgram(const std::string& role, const std::string& bin_dir) {
  std::error_code error;
  const fs::path own_folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  std::vector<fs::path> candidates;
  if (!bin_dir.empty()) {
    candidates = {fs::path(bin_dir) / role, fs::path(bin_dir) / "services" / role / role};
  } else {
    candidates = {own_folder / role, own_folder.parent_path() / "services" / role / role};
  }
  std::vector<std::string> tried;
  for (const fs::path& candidate : candidates) {
    // A folder of that name is no program.
    if (fs::is_regular_file(candidate, error)) return fs::absolute(candidate).string();
    tried.push_back(candidate.string());
  }
  return absl::NotFoundError(absl::StrCat("the program of the ", role, " is neither at ",
                                          absl::StrJoin(tried, " nor at ")));
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The last lines, indented.
std::string Tail(const std::string& text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  if (lines.empty()) return "  (it wrote nothing)";
  const size_t begin = lines.size() > kTailLines ? lines.size() - kTailLines : 0;
  return absl::StrCat("  ", absl::StrJoin(lines.begin() + begin, lines.end(), "\n  "));
}

std::string Seconds(absl::Duration duration) {
  return absl::StrCat(absl::ToInt64Milliseconds(duration) / 1000, ".",
                      absl::ToInt64Milliseconds(duration) % 1000 / 100, " s");
}

// For resume_key_file; readable for its owner only.
absl::Status WriteRandomKey(const std::string& path) {
  std::ifstream random("/dev/urandom", std::ios::binary);
  std::string key(32, '\0');
  random.read(key.data(), static_cast<std::streamsize>(key.size()));
  std::ofstream file(path, std::ios::binary);
  std::error_code error;
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write, error);
  file << key;
  file.close();
  if (random && file && !error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot write a key to ", path));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Launcher>> Launcher::StartLocal(const Topology& topology,
                                                               const LaunchOptions& options) {
  ASSIGN_OR_RETURN(internal::ClusterFile cluster, MakeLocalCluster(topology));
  return StartCluster(std::move(cluster), options);
}

absl::StatusOr<std::unique_ptr<Launcher>> Launcher::StartCluster(internal::ClusterFile cluster,
                                                                 const LaunchOptions& options) {
  std::unique_ptr<Launcher> launcher(new Launcher());
  RETURN_IF_ERROR(launcher->MakeFolder(options));
  if (cluster.resume_key_file().empty()) {
    const std::string key_path = absl::StrCat(launcher->folder_, "/resume.key");
    RETURN_IF_ERROR(WriteRandomKey(key_path));
    cluster.set_resume_key_file(key_path);
  }
  const std::string path = absl::StrCat(launcher->folder_, "/cluster.txtpb");
  RETURN_IF_ERROR(WriteClusterFile(cluster, path));
  std::map<internal::Role, std::string> paths;
  for (const auto& [role, seen] : options.seen_by) {
    paths[role] = absl::StrCat(launcher->folder_, "/seen-by-", RoleName(role), ".txtpb");
    RETURN_IF_ERROR(WriteClusterFile(seen, paths[role]));
  }
  RETURN_IF_ERROR(launcher->StartMembers(path, paths, options));
  return launcher;
}

absl::StatusOr<std::unique_ptr<Launcher>> Launcher::StartFile(const std::string& cluster_path,
                                                              const LaunchOptions& options) {
  std::unique_ptr<Launcher> launcher(new Launcher());
  RETURN_IF_ERROR(launcher->MakeFolder(options));
  RETURN_IF_ERROR(launcher->StartMembers(cluster_path, {}, options));
  return launcher;
}

Launcher::~Launcher() {
  members_.clear();
  std::error_code ignored;
  if (!folder_.empty() && !keep_folder_) fs::remove_all(folder_, ignored);
}

absl::Status Launcher::MakeFolder(const LaunchOptions& options) {
  std::error_code error;
  const fs::path parent =
      options.temp_dir.empty() ? fs::temp_directory_path(error) : fs::path(options.temp_dir);
  std::string pattern = (parent / "orrery-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make a folder like ", pattern));
  }
  folder_ = pattern;
  return absl::OkStatus();
}

absl::Status Launcher::StartMembers(const std::string& cluster_path,
                                    const std::map<internal::Role, std::string>& paths,
                                    const LaunchOptions& options) {
  ASSIGN_OR_RETURN(cluster_, ReadClusterFile(cluster_path));
  cluster_path_ = fs::absolute(cluster_path).string();
  started_at_ = absl::Now();
  // Shards first: they take longest, and nobody waits for the router.
  std::vector<RoleAndMember> order = AllMembers(cluster_);
  std::reverse(order.begin(), order.end());
  int num_behind = static_cast<int>(order.size());
  for (const auto& [role, member] : order) {
    --num_behind;
    if (options.left_out.contains(member->name()) || !IsOnThisMachine(member->address())) continue;
    ASSIGN_OR_RETURN(const std::string program, FindProgram(RoleName(role), options.bin_dir));
    const auto path = paths.find(role);
    std::vector<std::string> argv = {
        program, absl::StrCat("--cluster=", path == paths.end() ? cluster_path : path->second),
        absl::StrCat("--name=", member->name())};
    if (role != internal::ROLE_ROUTER) {
      argv.insert(argv.end(), options.compute_flags.begin(), options.compute_flags.end());
    }
    if (options.monitoring_port >= 0) {
      const int port = options.monitoring_port == 0 ? 0 : options.monitoring_port + num_behind;
      argv.push_back(absl::StrCat("--monitoring_address=127.0.0.1:", port));
    }
    const std::string output_path = absl::StrCat(folder_, "/", member->name(), ".log");
    ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> process, ChildProcess::Start(argv, output_path));
    members_.push_back(
        {role, member->name(), argv, output_path, std::move(process), member->spare()});
  }
  if (members_.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("no member of ", cluster_path, " has an address on this machine"));
  }
  return absl::OkStatus();
}

absl::Status Launcher::WaitUntilReady(absl::Duration timeout, const OnProgress& on_progress,
                                      const std::function<bool()>& should_stop) {
  const absl::Time begin = absl::Now();
  const absl::Time deadline = begin + timeout;
  v1::ClusterStatusResponse status = EveryoneStarting();
  while (true) {
    RETURN_IF_ERROR(CheckAlive());
    if (should_stop && should_stop()) return absl::CancelledError("stopped while starting");
    if (std::optional<v1::ClusterStatusResponse> answer = AskRouter(kPollInterval)) {
      status = *std::move(answer);
    }
    if (on_progress) on_progress(status);
    if (status.ready() && WhoIsNotReady(status).empty()) return absl::OkStatus();
    if (absl::Now() >= deadline) break;
    absl::SleepFor(kPollInterval);
  }
  keep_folder_ = true;
  return absl::DeadlineExceededError(absl::StrCat(
      "the cluster is not ready after ", Seconds(absl::Now() - begin), ":\n  ",
      absl::StrJoin(WhoIsNotReady(status), "\n  "), "\noutput of the members: ", folder_));
}

absl::Status Launcher::CheckAlive() {
  for (Member& member : members_) {
    const std::optional<ExitResult> exit = member.process->Poll();
    if (!exit.has_value() || member.end_was_told) continue;
    if (member.is_spare && exit->code == 0 && exit->signal == 0) continue;
    member.end_was_told = true;
    keep_folder_ = true;
    return absl::AbortedError(absl::StrCat(member.name, " ended with ", exit->ToString(), " after ",
                                           Seconds(absl::Now() - started_at_),
                                           "; its last output (", member.output_path, "):\n",
                                           LastOutput(member.name)));
  }
  return absl::OkStatus();
}

bool Launcher::HasRouter() {
  return std::any_of(members_.begin(), members_.end(), [](Member& member) {
    return member.role == internal::ROLE_ROUTER && !member.process->Poll().has_value();
  });
}

void Launcher::Stop() {
  // A server waits for its clients to answer its farewell, and an idle client of gRPC looks only
  // every 5 s.
  client_.reset();
  for (const internal::Role role :
       {internal::ROLE_ROUTER, internal::ROLE_ATTENTION, internal::ROLE_EXPERT}) {
    for (Member& member : members_) {
      if (member.role == role) member.process->Signal(SIGTERM);
    }
    const absl::Time deadline =
        absl::Now() + absl::Milliseconds(cluster_.limits().drain_ms()) + kStopPatience;
    for (Member& member : members_) {
      if (member.role != role || member.process->WaitUntil(deadline).has_value()) continue;
      member.process->Signal(SIGKILL);
      member.process->WaitUntil(absl::InfiniteFuture());
    }
  }
}

absl::Status Launcher::Kill(const std::string& name, int signal) {
  Member* const member = Find(name);
  if (member == nullptr) return absl::NotFoundError(absl::StrCat("no member \"", name, "\" here"));
  member->process->Signal(signal);
  return absl::OkStatus();
}

absl::Status Launcher::Restart(const std::string& name, const std::vector<std::string>& flags) {
  Member* const member = Find(name);
  if (member == nullptr) return absl::NotFoundError(absl::StrCat("no member \"", name, "\" here"));
  if (!member->process->Poll().has_value()) {
    return absl::FailedPreconditionError(absl::StrCat(name, " still runs"));
  }
  std::vector<std::string> argv = member->argv;
  argv.insert(argv.end(), flags.begin(), flags.end());
  ASSIGN_OR_RETURN(member->process, ChildProcess::Start(argv, member->output_path));
  member->end_was_told = false;
  started_at_ = absl::Now();
  return absl::OkStatus();
}

std::optional<ExitResult> Launcher::WaitForExit(const std::string& name, absl::Time deadline) {
  Member* const member = Find(name);
  if (member == nullptr) return std::nullopt;
  return member->process->WaitUntil(deadline);
}

std::string Launcher::Output(const std::string& name) const {
  return ReadAll(absl::StrCat(folder_, "/", name, ".log"));
}

std::string Launcher::MonitoringAddress(const std::string& name) const {
  constexpr std::string_view kBefore = "monitoring on ";
  const std::string output = Output(name);
  const size_t at = output.rfind(kBefore);
  const size_t end = output.find('\n', at);
  if (at == std::string::npos || end == std::string::npos) return "";
  return output.substr(at + kBefore.size(), end - at - kBefore.size());
}

std::string Launcher::LastOutput(const std::string& name) const { return Tail(Output(name)); }

std::optional<v1::ClusterStatusResponse> Launcher::AskRouter(absl::Duration patience) {
  if (!client_.has_value()) {
    absl::StatusOr<OrreryClient> client =
        OrreryClient::Connect({router_address()}, ClientTls(cluster_), patience);
    if (!client.ok()) return std::nullopt;
    client_ = *std::move(client);
  }
  absl::StatusOr<v1::ClusterStatusResponse> status = client_->ClusterStatus();
  if (!status.ok()) return std::nullopt;
  return *std::move(status);
}

v1::ClusterStatusResponse Launcher::EveryoneStarting() const {
  v1::ClusterStatusResponse status;
  for (const auto& [role, member] : AllMembers(cluster_)) {
    v1::MemberStatus& entry = *status.add_member();
    entry.set_name(member->name());
    entry.set_role(RoleName(role));
    entry.set_address(member->address());
    entry.set_state("starting");
  }
  return status;
}

std::vector<std::string> Launcher::WhoIsNotReady(const v1::ClusterStatusResponse& status) {
  std::vector<std::string> reasons;
  for (const v1::MemberStatus& member : status.member()) {
    if (member.state() == "ready" && member.problem().empty()) continue;
    const Member* const ours = Find(member.name());
    const bool runs_here = ours != nullptr && !ours->process->Poll().has_value();
    if (member.state() == "absent" && !runs_here) continue;
    std::string reason =
        absl::StrCat(member.name(), " at ", member.address(), " is ", member.state());
    if (!member.problem().empty()) {
      absl::StrAppend(&reason, " (", absl::StrJoin(member.problem(), "; "), ")");
    }
    reasons.push_back(std::move(reason));
  }
  return reasons;
}

Launcher::Member* Launcher::Find(const std::string& name) {
  for (Member& member : members_) {
    if (member.name == name) return &member;
  }
  return nullptr;
}

}  // namespace orrery
