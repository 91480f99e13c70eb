#include "tools/simulate_command.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/stop_signal.h"
#include "tests/simulation/storms.h"
#include "tools/flags/command_line.h"
#include "tools/flags/seed_flag.h"
#include "tools/terminal.h"

ABSL_FLAG(int64_t, seeds, 1000, "how many seeds, each a random schedule of faults");

namespace orrery {
namespace {

constexpr int64_t kMaxSeeds = 1'000'000'000;
constexpr size_t kMaxBrokenSeeds = 5;
constexpr int kBarWidth = 30;
constexpr absl::Duration kLookInterval = absl::Milliseconds(200);

struct BrokenSeed {
  uint64_t seed = 0;
  std::vector<std::string> violations;
};

// What the threads share.
struct Run {
  uint64_t first = 1;
  int64_t num_seeds = 0;
  std::atomic<int64_t> next = 0;
  std::atomic<int64_t> num_done = 0;
  std::atomic<bool> should_stop = false;
  std::mutex mutex;
  // Guarded by mutex.
  std::vector<BrokenSeed> broken;
  std::map<std::string, int64_t> happened;
};

thread_local uint64_t seed_under_way = 0;

// A check that fails ends the process: the last words name the seed.
void SaySeed(int) {
  char words[100];
  const int length =
      std::snprintf(words, sizeof(words), "while seed %llu ran (again: --seeds=1 --seed=%llu)\n",
                    static_cast<unsigned long long>(seed_under_way),
                    static_cast<unsigned long long>(seed_under_way));
  if (write(STDERR_FILENO, words, length) < 0) return;
}

void SaySeedWhenCrashing() {
  struct sigaction action = {};
  action.sa_handler = SaySeed;
  action.sa_flags = SA_RESETHAND;  // then it crashes as it would have
  for (const int signal : {SIGABRT, SIGSEGV}) sigaction(signal, &action, nullptr);
}

// Until all seeds are done, enough are broken, or it is asked to stop. What was begun is finished, so that
// of any seeds that were done all lower ones were too.
void Work(Run& run) {
  while (!run.should_stop) {
    const int64_t number = run.next++;
    if (number >= run.num_seeds) return;
    const uint64_t seed = run.first + static_cast<uint64_t>(number);
    seed_under_way = seed;
    StormReport report = RunStorm(seed);
    ++run.num_done;
    std::lock_guard<std::mutex> lock(run.mutex);
    for (const auto& [what, count] : report.happened) run.happened[what] += count;
    if (report.broken.empty()) continue;
    run.broken.push_back({seed, std::move(report.broken)});
    if (run.broken.size() >= kMaxBrokenSeeds) run.should_stop = true;
  }
}

void Simulate(Run& run, Terminal& out) {
  StopSignal stop;
  SaySeedWhenCrashing();
  const absl::Time begin = absl::Now();
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) {
    threads.emplace_back([&run] { Work(run); });
  }
  while (run.num_done < run.num_seeds && !run.should_stop) {
    out.ShowProgress(ProgressLine({.label = "simulating",
                                   .done = run.num_done,
                                   .total = run.num_seeds,
                                   .elapsed = absl::Now() - begin,
                                   .unit = "seeds"},
                                  kBarWidth));
    if (stop.WaitFor(kLookInterval)) run.should_stop = true;
  }
  for (std::thread& thread : threads) thread.join();
  out.ClearProgress();
  std::sort(run.broken.begin(), run.broken.end(),
            [](const BrokenSeed& a, const BrokenSeed& b) { return a.seed < b.seed; });
  // The first ones, whatever the other threads found meanwhile.
  if (run.broken.size() > kMaxBrokenSeeds) run.broken.resize(kMaxBrokenSeeds);
  for (const BrokenSeed& broken : run.broken) {
    out.Print("seed ", broken.seed, " (again: orrery simulate --seeds=1 --seed=", broken.seed,
              ")\n");
    for (const std::string& violation : broken.violations) out.Print("  ", violation, "\n");
  }
  for (const auto& [what, count] : run.happened) {
    out.Print(absl::StrFormat("%14d %s\n", count, what));
  }
  const int64_t num_done = run.num_done;
  out.Print(absl::StrFormat("%d seeds, %.0f a second; %d broke a promise\n", num_done,
                            num_done / absl::ToDoubleSeconds(absl::Now() - begin),
                            run.broken.size()));
}

}  // namespace

int RunSimulate(const std::vector<std::string>&) {
  Run run;
  run.num_seeds = absl::GetFlag(FLAGS_seeds);
  if (run.num_seeds < 1 || run.num_seeds > kMaxSeeds) {
    return Fail("simulate", absl::InvalidArgumentError(absl::StrCat(
                                "--seeds is ", run.num_seeds, ", not from 1 to ", kMaxSeeds)));
  }
  run.first = static_cast<uint64_t>(std::max<int64_t>(absl::GetFlag(FLAGS_seed), 1));
  Terminal out(stdout);
  Simulate(run, out);
  return run.broken.empty() && run.num_done == run.num_seeds ? 0 : 1;
}

}  // namespace orrery
