// Which shards this rank may use: each is asked to describe itself, again and again
// (rpc/member_watch.h), and checked whether it fits.
//
//   ShardWatch watch(options, &directory);      // from here on the directory follows the shards
//   absl::Status ready = watch.Ready();         // OK while every expert has a holder, or a heir
//   watch.Stop();
//
// A shard fits if it is ready or draining, its numerics id is ours, and its model has our fingerprint; a
// shard that does not is refused, with both values in its problem. What a shard holds, and what it could
// load, goes to the directory.
//
// Thread-safe.
#ifndef ORRERY_SERVICES_ATTENTION_SHARD_WATCH_H_
#define ORRERY_SERVICES_ATTENTION_SHARD_WATCH_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "checkpoint/fingerprint.h"
#include "grpcpp/channel.h"
#include "proto/member.pb.h"
#include "rpc/member_watch.h"
#include "services/attention/expert_directory.h"

namespace orrery {

// OK, or why a shard that describes itself so may not be used by a rank with these two.
absl::Status CheckShard(const internal::MemberDescription& shard,
                        const Fingerprint& our_fingerprint, const std::string& our_numerics_id);

class ShardWatch {
 public:
  struct Shard {
    std::string name;
    std::shared_ptr<grpc::Channel> channel;
  };
  struct Options {
    std::vector<Shard> shards;
    Fingerprint fingerprint;
    std::string numerics_id;
    // How long after the start shards may still be on their way before heirs are asked for what they
    // should hold; longer while one says that it is loading.
    absl::Duration join_time = absl::Seconds(30);
    // A shard that stays silent counts as gone. A loss is noticed by the exchange first.
    WatchOptions watch = {.call_timeout = absl::Seconds(2), .ready_delay = absl::Seconds(1)};
  };

  ShardWatch(Options options, ExpertDirectory* directory);
  ~ShardWatch();

  // OK, or UNAVAILABLE with the experts that have no holder and what is wrong with which shard.
  absl::Status Ready() const;
  // One per shard, in order.
  std::vector<internal::PeerView> Peers() const;
  void Stop();

 private:
  void OnAnswer(int shard, const absl::StatusOr<internal::MemberDescription>& answer);

  const Options options_;
  ExpertDirectory* const directory_;
  const absl::Time started_at_;
  mutable absl::Mutex mutex_;
  std::vector<bool> is_loading_ ABSL_GUARDED_BY(mutex_);      // per shard: and says so
  std::vector<absl::Status> status_ ABSL_GUARDED_BY(mutex_);  // per shard: OK if usable
  std::optional<MemberWatch> watch_;                          // last: its answers use the others
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SHARD_WATCH_H_
