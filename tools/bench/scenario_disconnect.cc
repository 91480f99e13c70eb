// In every round a hundred clients go away at random moments, half of them without having taken a
// message, and a whole process of streaming clients is killed. Then nothing may be left.
//
// Memory: the allocators and thread pools of a fresh process grow for a while, so the first half of the
// rounds warms them up. What is kept for each client that went would still grow in the second half.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/rng.h"
#include "tools/bench/counters.h"
#include "tools/bench/process_usage.h"
#include "tools/bench/scenarios.h"
#include "tools/launch/child_process.h"

namespace orrery {
namespace {

constexpr int kClientsPerRound = 100;
constexpr int kKilledClients = 16;
// They send their first requests after some 1.5 s: they wait until the cluster is idle.
constexpr absl::Duration kMinLife = absl::Seconds(2);
constexpr absl::Duration kMoreLife = absl::Seconds(2);
constexpr absl::Duration kPatience = absl::Seconds(30);
// Experts have nothing to do for so long.
constexpr absl::Duration kQuietTime = absl::Seconds(2);
// A kept request has a prompt of some 750 ids alone, 3 KB. Below stands the noise of the allocator.
constexpr double kMaxBytesPerClient = 2048.0;

Load Clients(int concurrency, bool reads) {
  Load load;
  load.tenant = reads ? "streaming" : "not-reading";
  load.concurrency = std::max(concurrency / 2, 1);
  load.prompt_tokens = {.min = 16, .max = 1500};
  load.output_tokens = {.min = 64, .max = 1024};
  load.disconnect_within = absl::Seconds(2);
  load.reads = reads;
  return load;
}

// This program again, as clients whose connection breaks without a word.
absl::Status KillClients(const ServeBench& bench, int round) {
  std::error_code error;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) return absl::UnavailableError("cannot find this program in /proc");
  ASSIGN_OR_RETURN(
      const std::unique_ptr<ChildProcess> clients,
      ChildProcess::Start(
          {self, "bench", "serve", absl::StrCat("--router=", bench.options().client->address()),
           absl::StrCat("--concurrency=", kKilledClients), "--duration=1m",
           "--prompt_tokens=16-1500", "--output_tokens=64-1024"},
          "/dev/null"));
  const DrawKey key = {.seed = bench.options().seed, .position = static_cast<uint32_t>(round)};
  const absl::Duration life = kMinLife + UniformDraw(key) * kMoreLife;
  const std::optional<ExitResult> early = clients->WaitUntil(absl::Now() + life);
  if (!early.has_value()) return absl::OkStatus();  // its destructor kills it
  return absl::UnavailableError(
      absl::StrCat("the clients to be killed ended by themselves, with ", early->ToString()));
}

double Megabytes(const UsageSnapshot& usage) {
  double sum = 0.0;
  for (const auto& [name, process] : usage.children) {
    sum += static_cast<double>(process.anonymous_bytes) * 1e-6;
  }
  return sum;
}

// What is left when all clients have gone.
struct Rest {
  int64_t num_open = 0;
  int64_t kv_blocks_used = 0;
  int64_t kv_blocks_leaked = 0;
  UsageSnapshot usage;
};

absl::StatusOr<Rest> RunRound(ServeBench& bench, int round, int concurrency) {
  Phase phase = {.name = absl::StrCat("round ", round),
                 .loads = {Clients(concurrency, true), Clients(concurrency, false)},
                 .num_requests = kClientsPerRound / 2};
  ASSIGN_OR_RETURN(const PhaseResult* const result, bench.Run(std::move(phase)));
  if (bench.options().tls.empty()) RETURN_IF_ERROR(KillClients(bench, round));
  ASSIGN_OR_RETURN(const v1::ClusterStatusResponse status, bench.Settle(kPatience));
  const Counters counters = CountersOf(status);
  const Rest rest = {.num_open = NumOpen(status),
                     .kv_blocks_used = counters.at("kv_blocks_used"),
                     .kv_blocks_leaked = counters.at("kv_blocks_leaked"),
                     .usage = TakeUsageSnapshot()};
  bench.options().out->Print(absl::StrFormat(
      "%-10s %4d clients gone, %d had ended before, %d errors; left: %d open requests, %d blocks "
      "used, %d leaked; memory %.1f MB\n",
      result->phase.name, result->total.num_cut, result->total.num_ok,
      result->total.num_requests - result->total.num_cut - result->total.num_ok, rest.num_open,
      rest.kv_blocks_used, rest.kv_blocks_leaked, Megabytes(rest.usage)));
  return rest;
}

void JudgeMemory(ServeBench& bench, const std::vector<Rest>& rests) {
  const size_t num_warming = rests.size() / 2;
  if (num_warming == 0 || rests.back().usage.children.empty()) {
    bench.options().out->Print("memory is not judged: that takes ",
                               num_warming == 0 ? "two rounds" : "a cluster that this run started",
                               "\n");
    return;
  }
  const auto num_clients = static_cast<double>(kClientsPerRound * (rests.size() - num_warming));
  const auto growth = GrowthBetween(rests[num_warming - 1].usage, rests.back().usage);
  for (const auto& [name, bytes] : growth) {
    bench.Judge(absl::StrCat("bytes by which ", name, " grew per client, last ", num_clients),
                static_cast<double>(bytes) / num_clients, AtMost(kMaxBytesPerClient));
  }
}

}  // namespace

absl::Status RunDisconnect(ServeBench& bench, const ScenarioOptions& options) {
  const int concurrency = options.concurrency > 0 ? options.concurrency : 64;
  const int rounds = options.rounds > 0 ? options.rounds : 20;
  if (!bench.options().tls.empty()) {
    bench.options().out->Print(
        "no process of clients is killed: it could not be told the certificates\n");
  }
  std::vector<Rest> rests;
  for (int round = 1; round <= rounds; ++round) {
    ASSIGN_OR_RETURN(const Rest rest, RunRound(bench, round, concurrency));
    rests.push_back(rest);
  }
  ASSIGN_OR_RETURN(const v1::ClusterStatusResponse before, bench.options().client->ClusterStatus());
  absl::SleepFor(kQuietTime);
  ASSIGN_OR_RETURN(const v1::ClusterStatusResponse after, bench.options().client->ClusterStatus());
  const Counters change = CounterChange(CountersOf(before), CountersOf(after));

  Rest worst;
  for (const Rest& rest : rests) {
    worst.num_open = std::max(worst.num_open, rest.num_open);
    worst.kv_blocks_used = std::max(worst.kv_blocks_used, rest.kv_blocks_used);
    worst.kv_blocks_leaked = std::max(worst.kv_blocks_leaked, rest.kv_blocks_leaked);
  }
  bench.Judge("open requests left, most of any round", static_cast<double>(worst.num_open),
              AtMost(0.0));
  bench.Judge("blocks used by nobody's request", static_cast<double>(worst.kv_blocks_used),
              AtMost(0.0));
  bench.Judge("leaked blocks", static_cast<double>(worst.kv_blocks_leaked), AtMost(0.0));
  bench.Judge("frames that experts got afterwards", static_cast<double>(change.at("frames")),
              AtMost(0.0));
  JudgeMemory(bench, rests);
  return absl::OkStatus();
}

}  // namespace orrery
