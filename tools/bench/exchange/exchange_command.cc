#include "tools/bench/exchange/exchange_command.h"

#include <stdlib.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "base/stop_signal.h"
#include "rpc/cluster_tls.h"
#include "tools/bench/exchange/echo_shard.h"
#include "tools/bench/exchange/exchange_bench.h"
#include "tools/bench/exchange/exchange_report.h"
#include "tools/bench/serve_flags.h"
#include "tools/certs/development_certificates.h"
#include "tools/flags/command_line.h"
#include "tools/flags/scenario_flags.h"
#include "tools/flags/tls_flags.h"
#include "tools/launch/child_process.h"
#include "tools/launch/topology.h"
#include "tools/terminal.h"

ABSL_FLAG(int, exchange_rounds, 40, "of bench exchange: rounds that the medians are taken over");
ABSL_FLAG(std::vector<std::string>, serve_at, {},
          "of bench exchange: this process is the shard; three addresses, for frames, for bare "
          "streams and for frames with the certificates of --tls. The command starts such a "
          "process itself");

namespace orrery {
namespace {

constexpr int kMaxRounds = 100'000;

// As a member of a cluster with these certificates.
TlsFiles TlsOf(internal::Role self, internal::Role peer, const std::string& folder) {
  internal::ClusterFile cluster;
  *cluster.mutable_tls() = TlsOfFolder(folder);
  cluster.mutable_tls()->set_trust_domain(kDefaultTrustDomain);
  return MemberTls(cluster, self, {peer});
}

// A temporary folder with certificates, as long as it lives.
class Certificates {
 public:
  static absl::StatusOr<std::unique_ptr<Certificates>> Make() {
    std::unique_ptr<Certificates> certificates(new Certificates);
    std::error_code error;
    std::string pattern = (std::filesystem::temp_directory_path(error) / "orrery-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot make a folder like ", pattern));
    }
    certificates->folder_ = pattern;
    RETURN_IF_ERROR(MakeCertificates({.folder = pattern}));
    return certificates;
  }
  ~Certificates() {
    std::error_code ignored;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
  }
  const std::string& folder() const { return folder_; }

 private:
  Certificates() = default;
  std::string folder_;
};

absl::Status ServeUntilStopped(const std::vector<std::string>& addresses) {
  if (addresses.size() != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("--serve_at has ", addresses.size(), " addresses, needs 3"));
  }
  StopSignal stop;
  ASSIGN_OR_RETURN(const std::unique_ptr<EchoShard> shard,
                   EchoShard::Start({.exchange = ExchangeOptionsOf(ExchangeShape()),
                                     .address = addresses[0],
                                     .bare_address = addresses[1],
                                     .tls_address = addresses[2],
                                     .tls = TlsOf(internal::ROLE_EXPERT, internal::ROLE_ATTENTION,
                                                  absl::GetFlag(FLAGS_tls))}));
  stop.Wait();
  return absl::OkStatus();
}

absl::Status WriteJson(const std::string& path, const std::string& json) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << json;
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

absl::StatusOr<bool> Bench() {
  RETURN_IF_ERROR(AllowOnly("bench exchange", {"exchange_rounds", "serve_at", "tls", "json_file"}));
  ExchangeBenchOptions options;
  options.num_rounds = absl::GetFlag(FLAGS_exchange_rounds);
  if (options.num_rounds < 1 || options.num_rounds > kMaxRounds) {
    return absl::InvalidArgumentError(
        absl::StrCat("--exchange_rounds is ", options.num_rounds, ", must be 1 to ", kMaxRounds));
  }
  ASSIGN_OR_RETURN(const std::vector<int> ports, PickFreePorts(3));
  options.address = absl::StrCat("127.0.0.1:", ports[0]);
  options.bare_address = absl::StrCat("127.0.0.1:", ports[1]);
  options.tls_address = absl::StrCat("127.0.0.1:", ports[2]);
  ASSIGN_OR_RETURN(const std::unique_ptr<Certificates> certificates, Certificates::Make());
  options.tls = TlsOf(internal::ROLE_ATTENTION, internal::ROLE_EXPERT, certificates->folder());
  std::error_code error;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) return absl::UnavailableError(absl::StrCat("/proc/self/exe: ", error.message()));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<ChildProcess> shard,
      ChildProcess::Start({self, "bench", "exchange",
                           absl::StrCat("--serve_at=", options.address, ",", options.bare_address,
                                        ",", options.tls_address),
                           absl::StrCat("--tls=", certificates->folder())},
                          "/dev/null"));
  Terminal out(stdout);
  const std::string command =
      CommandFromFlags({kExchangeFlags, kScenarioFlags}, "orrery bench exchange");
  out.Print(ExchangeHeadText(command, options.shape));
  options.on_figures = [&](const ExchangeFigures& row) { out.Print(ExchangeRowText(row)); };
  ASSIGN_OR_RETURN(const ExchangeBenchResult result, RunExchangeBench(options));
  out.Print(ExchangeEndText(result));
  if (const std::string path = absl::GetFlag(FLAGS_json_file); !path.empty()) {
    RETURN_IF_ERROR(WriteJson(path, ExchangeJson(command, options.shape, result)));
  }
  return result.held();
}

}  // namespace

int RunBenchExchange() {
  const std::vector<std::string> serve_at = absl::GetFlag(FLAGS_serve_at);
  const absl::StatusOr<bool> held = serve_at.empty() ? Bench() : [&]() -> absl::StatusOr<bool> {
    RETURN_IF_ERROR(ServeUntilStopped(serve_at));
    return true;
  }();
  if (held.ok()) return *held ? 0 : 1;
  return Fail("bench exchange", held.status());
}

}  // namespace orrery
