// The cluster that a chaos run harms: its processes, the streams that they answer, the proxies between
// them; and everything random about the harm, from a seed.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Victim> victim, Victim::Start(options));
//   const std::string name = victim->AnyOf(internal::ROLE_EXPERT);
//   RETURN_IF_ERROR(victim->LetTokensPass());     // to a moment that nobody chose
//   RETURN_IF_ERROR(victim->Kill(name));
//   RETURN_IF_ERROR(victim->Restart(name));
//   RETURN_IF_ERROR(victim->AwaitReady());
//
// Errors: those of the launcher; DEADLINE_EXCEEDED when the cluster does not come back; CANCELLED when asked
// to stop. Threads: one owner, the thread that started it.
#ifndef ORRERY_TOOLS_CHAOS_VICTIM_H_
#define ORRERY_TOOLS_CHAOS_VICTIM_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/fault_point.h"
#include "base/status.h"
#include "proto/member.pb.h"
#include "tools/chaos/fault_proxy.h"
#include "tools/chaos/questions.h"
#include "tools/chaos/streams.h"
#include "tools/launch/launcher.h"

namespace orrery {

class Victim {
 public:
  struct Options {
    Topology topology;
    LaunchOptions launch;
    bool has_proxies = false;
    // The last member of each role lives through all that happens to the others and to the network.
    bool has_bystanders = false;
    uint64_t seed = 0;
    int num_streams = 32;
    int num_questions = 24;
    double busy_share = 1.0;  // see Streams
    // Question k is asked about 1 / k times as often as the first.
    bool asks_by_zipf = false;
    // Until it is ready, at the start and after each fault; and of one answer.
    absl::Duration patience = absl::Minutes(2);
    // May be empty.
    std::function<bool()> should_stop;
  };

  // A ready cluster with its streams under way. Asks every question undisturbed first.
  static absl::StatusOr<std::unique_ptr<Victim>> Start(const Options& options);

  // --- Chance ---
  // Of 0..num - 1.
  int Below(int num);
  // Any moment between the two is as likely on a logarithmic scale.
  absl::Duration Between(absl::Duration least, absl::Duration most);
  // Of those that are no spares and no bystanders, as below.
  std::string AnyOf(internal::Role role);
  std::vector<std::string> NamesOf(internal::Role role) const;

  std::vector<std::string> RouterAddresses() const;
  const internal::ClusterFile& cluster() const { return launcher_->cluster(); }

  // --- Processes ---
  // Until some more tokens have come, a random number of them.
  absl::Status LetTokensPass();
  absl::Status LetTimePass(absl::Duration duration);
  absl::Status Kill(const std::string& name);  // -9, and gone when it returns
  absl::Status Signal(const std::string& name, int signal);
  // Asks it to go, until it has and every other router knows it; INTERNAL if it does not exit with 0 in time.
  absl::Status Drain(const std::string& name);
  absl::Status Restart(const std::string& name, const std::vector<std::string>& flags = {});
  // The flag with which a member of the next life reads another cluster file, this one.
  absl::StatusOr<std::string> ClusterFlag(const internal::ClusterFile& cluster);
  // Starts it so that it dies at that point (base/fault_point.h), at the first to the last_passing-th time that
  // it passes.
  absl::Status RestartToDie(const std::string& name, FaultPoint point, int last_passing);
  // Starts it so that it flips a bit in one of so many results (services/expert/bit_flips.h).
  absl::Status RestartToFlip(const std::string& name, int one_in);
  // Until every member of the role tells of a problem that begins so; says how long that took.
  absl::StatusOr<absl::Duration> AwaitProblem(internal::Role role, const std::string& begin);
  // Until it has ended by itself.
  absl::Status AwaitDeath(const std::string& name);
  // Every member, and as many answers as there are streams have ended since.
  absl::Status AwaitRecovery();
  // Every member, as every router sees it.
  absl::Status AwaitReady();

  // One per shard if the scenario has them, else none.
  const std::vector<std::unique_ptr<FaultProxy>>& proxies() const { return proxies_; }

  Streams& streams() { return *streams_; }
  // Beside a fault that had been survived, messages came by this factor more slowly than before.
  void NoteSlowdown(double factor) { slowdowns_.push_back(factor); }
  const std::vector<double>& slowdowns() const { return slowdowns_; }
  // After the last fault: asks nothing any more, and waits for what is under way.
  StreamsReport Stop();
  // Of these requests, which were answered, those whose end the routers' logs do not tell exactly once.
  int64_t CountNotLoggedOnce(const std::vector<std::string>& request_ids) const;

 private:
  explicit Victim(const Options& options) : options_(options), random_(options.seed) {}
  absl::Status StartCluster();
  // Until every router but that one shows what is waited for. Each has a view of its own, some moments old.
  absl::Status AwaitRouters(const std::string& but,
                            const std::function<bool(const v1::ClusterStatusResponse&)>& is_seen);
  bool should_stop() const { return options_.should_stop && options_.should_stop(); }

  const Options options_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<FaultProxy>> proxies_;
  std::unique_ptr<Launcher> launcher_;
  std::optional<OrreryClient> client_;           // of all routers
  std::map<std::string, OrreryClient> routers_;  // of one each, by name
  std::vector<Question> questions_;
  std::optional<Streams> streams_;
  std::vector<double> slowdowns_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_VICTIM_H_
