// The copies of a shard (copies.h) within its process: how many it may load, with what, and who is told.
//
//   ASSIGN_OR_RETURN(auto host, CopyHost::Create(parts));  // before the serve loop: the shard asks
//   host->Start(&loop);                                    // from here on it loads
//   RETURN_IF_ERROR(host->copies().Want(keys));            // as the balancer says
//   host->Describe(description);                           // what it offers, and has
//   host->Stop();                                          // before the loop ends
//
// An expert that was loaded becomes a slot of the shard between two groups, and stands in the member's
// description like all others. The other shards are watched from then on, so that it is known what they hold
// (rpc/member_watch.h, other_shards.h); and ranks say, when they ask this one who it is, whom they have convicted.
//
// First the files are checked, in the background: the hashes of all that the folder has join the member's
// fingerprint, so that ranks know what they would get. Until then, and if files of the model are missing,
// nothing is offered. (A folder with some files is enough for the experts in them, should anybody ask.)
//
// Threads: its methods may be called from any.
#ifndef ORRERY_SERVICES_EXPERT_COPY_HOST_H_
#define ORRERY_SERVICES_EXPERT_COPY_HOST_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "device/device.h"
#include "kernels/factory/make_kernels.h"
#include "placement/placement.h"
#include "proto/cluster.pb.h"
#include "proto/member.pb.h"
#include "rpc/member_service.h"
#include "rpc/member_watch.h"
#include "services/expert/copies.h"
#include "services/expert/other_shards.h"
#include "services/expert/serve_loop.h"
#include "services/expert/shard.h"

namespace orrery {

// How many experts of others a shard may load, each of which takes so many bytes.
int MaxCopies(const internal::ClusterFile& cluster, const ModelConfig& config, bool with_mtp,
              int shard_index, size_t expert_bytes);

class CopyHost {
 public:
  // All that is pointed to outlives it.
  struct Parts {
    const internal::ClusterFile* cluster = nullptr;
    int shard_index = 0;
    int max_copies = 0;
    ShardParts shard_parts;  // the shard's; kernels and stream are made anew
    CpuVariant cpu_variant = CpuVariant::kBest;
    std::string numerics_id;
    Shard* shard = nullptr;
    MemberService* member = nullptr;
    std::atomic<int64_t>* loaded_bytes = nullptr;
  };
  static absl::StatusOr<std::unique_ptr<CopyHost>> Create(const Parts& parts);
  ~CopyHost() { Stop(); }

  void Start(ServeLoop* loop);
  void Stop();
  Copies& copies() { return *copies_; }
  void Describe(internal::MemberDescription& description) const;

 private:
  explicit CopyHost(const Parts& parts);
  absl::Status CheckFiles();
  // As in CopiesOptions.
  bool IsServed(ExpertKey key) const;
  bool IsHeldBefore(ExpertKey key) const;
  void HandOver(ExpertKey key, FeedForwardWeights weights);
  void Drop(ExpertKey key);
  void WatchOthers();
  void OnDescription(int shard, const absl::StatusOr<internal::MemberDescription>& answer);

  const Parts parts_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
  ServeLoop* loop_ = nullptr;
  std::atomic<bool> is_whole_ = false;  // the folder has every file
  mutable std::mutex mutex_;
  OtherShards others_;        // guarded by mutex_
  std::vector<int> watched_;  // shards, by index of the watch
  std::unique_ptr<Copies> copies_;
  std::optional<MemberWatch> watch_;  // the loading thread makes it
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_COPY_HOST_H_
