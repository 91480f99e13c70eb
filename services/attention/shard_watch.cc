#include "services/attention/shard_watch.h"

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "model/identity/fingerprint_proto.h"

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
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (const Shard& shard : options_.shards) channels.push_back(shard.channel);
  watch_.emplace(channels, options_.watch,
                 [this](int shard, const absl::StatusOr<internal::MemberDescription>& answer) {
                   OnAnswer(shard, answer);
                 });
}

ShardWatch::~ShardWatch() { Stop(); }

void ShardWatch::Stop() { watch_->Stop(); }

void ShardWatch::OnAnswer(int shard, const absl::StatusOr<internal::MemberDescription>& answer) {
  const Shard& peer = options_.shards[shard];
  const absl::Status status = answer.ok()
                                  ? CheckShard(*answer, options_.fingerprint, options_.numerics_id)
                                  : answer.status();
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
  directory_->SetHeld(shard, status.ok() ? HeldBy(*answer) : std::vector<LayerExperts>());
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
