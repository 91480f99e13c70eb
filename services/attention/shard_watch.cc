#include "services/attention/shard_watch.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "model/identity/fingerprint_proto.h"
#include "proto/member.grpc.pb.h"
#include "rpc/deadline.h"
#include "rpc/status.h"

namespace orrery {
namespace {

std::vector<LayerExperts> HeldBy(const internal::MemberDescription& shard) {
  std::vector<LayerExperts> held;
  for (const internal::HeldExperts& layer : shard.held()) {
    held.push_back(
        {.layer = layer.layer(), .experts = {layer.expert().begin(), layer.expert().end()}});
  }
  return held;
}

}  // namespace

absl::Status CheckShard(const internal::MemberDescription& shard,
                        const Fingerprint& our_fingerprint, const std::string& our_numerics_id) {
  if (shard.role() != internal::ROLE_EXPERT) {
    return absl::FailedPreconditionError(
        absl::StrCat("the member at this address is ", shard.name(), ", which is no expert shard"));
  }
  if (shard.state() != internal::MEMBER_STATE_READY) {
    return absl::UnavailableError(shard.problems_size() > 0 ? shard.problems(0)
                                                            : std::string("it is not ready yet"));
  }
  if (shard.numerics_id() != our_numerics_id) {
    return absl::FailedPreconditionError(absl::StrCat("its numerics id is \"", shard.numerics_id(),
                                                      "\", ours is \"", our_numerics_id, "\""));
  }
  return CheckSameModel(our_fingerprint, FromProto(shard.fingerprint()));
}

ShardWatch::ShardWatch(Options options, ExpertDirectory* directory)
    : options_(std::move(options)), directory_(directory) {
  status_.assign(options_.shards.size(), absl::UnavailableError("it has not answered yet"));
  for (size_t shard = 0; shard < options_.shards.size(); ++shard) {
    watchers_.emplace_back([this, shard] { Watch(static_cast<int>(shard)); });
  }
}

ShardWatch::~ShardWatch() { Stop(); }

void ShardWatch::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& watcher : watchers_) {
    if (watcher.joinable()) watcher.join();
  }
}

void ShardWatch::Watch(int shard) {
  absl::MutexLock lock(&mutex_);
  while (!stopping_) {
    mutex_.Unlock();
    Ask(shard);
    mutex_.Lock();
    mutex_.AwaitWithTimeout(absl::Condition(&stopping_),
                            status_[shard].ok() ? options_.calm_interval : options_.interval);
  }
}

void ShardWatch::Ask(int shard) {
  const Shard& peer = options_.shards[shard];
  internal::MemberDescription description;
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + options_.timeout);
  absl::Status status =
      FromGrpcStatus(internal::Member::NewStub(peer.channel)
                         ->Describe(&context, internal::DescribeRequest(), &description));
  if (status.ok()) status = CheckShard(description, options_.fingerprint, options_.numerics_id);

  {
    absl::MutexLock lock(&mutex_);
    absl::Status& known = status_[shard];
    if (status == known && !status.ok()) return;
    if (status != known) {
      if (status.ok()) {
        LogInfo("using ", peer.name);
      } else if (status.code() == absl::StatusCode::kFailedPrecondition) {
        LogError("refusing ", peer.name, ": ", std::string(status.message()));
      } else {
        LogInfo(peer.name, " cannot be used now: ", std::string(status.message()));
      }
    }
    known = status;
  }
  directory_->SetHeld(shard, status.ok() ? HeldBy(description) : std::vector<LayerExperts>());
}

absl::Status ShardWatch::Ready() const {
  const std::string missing = directory_->Missing();
  if (missing.empty()) return absl::OkStatus();
  std::string reasons;
  for (const internal::PeerView& peer : Peers()) {
    if (!peer.usable()) absl::StrAppend(&reasons, "; ", peer.name(), ": ", peer.problem());
  }
  return absl::UnavailableError(absl::StrCat(missing, reasons));
}

std::vector<internal::PeerView> ShardWatch::Peers() const {
  absl::MutexLock lock(&mutex_);
  std::vector<internal::PeerView> peers(options_.shards.size());
  for (size_t shard = 0; shard < peers.size(); ++shard) {
    peers[shard].set_name(options_.shards[shard].name);
    peers[shard].set_usable(status_[shard].ok());
    peers[shard].set_problem(std::string(status_[shard].message()));
  }
  return peers;
}

}  // namespace orrery
