#include "services/attention/shard_watch.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "model/identity/fingerprint_proto.h"

namespace orrery {
namespace {

ShardClaim ClaimOf(const internal::MemberDescription& shard) {
  ShardClaim claim = {.held = {},
                      .is_draining = shard.state() == internal::MEMBER_STATE_DRAINING,
                      .room = std::nullopt,
                      .incarnation = shard.incarnation()};
  if (shard.has_heir_offer()) claim.room = shard.heir_offer().room();
  claim.num_loading = shard.heir_offer().num_loading();
  for (const internal::HeldExperts& layer : shard.held()) {
    claim.held.push_back(
        {.layer = layer.layer(), .experts = {layer.expert().begin(), layer.expert().end()}});
  }
  return claim;
}

}  // namespace

absl::Status CheckShard(const internal::MemberDescription& shard,
                        const Fingerprint& our_fingerprint, const std::string& our_numerics_id) {
  if (shard.role() != internal::ROLE_EXPERT) {
    return absl::FailedPreconditionError(
        absl::StrCat("the member at this address is ", shard.name(), ", which is no expert shard"));
  }
  if (shard.state() != internal::MEMBER_STATE_READY &&
      shard.state() != internal::MEMBER_STATE_DRAINING) {
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
    : options_(std::move(options)), directory_(directory), started_at_(absl::Now()) {
  is_loading_.assign(options_.shards.size(), false);
  status_.assign(options_.shards.size(), absl::UnavailableError("it has not answered yet"));
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (const Shard& shard : options_.shards) channels.push_back(shard.channel);
  watch_.emplace(
      channels, options_.watch,
      [this](int shard, const absl::StatusOr<internal::MemberDescription>& answer) {
        OnAnswer(shard, answer);
      },
      [this] {
        internal::DescribeRequest request;
        for (const uint64_t incarnation : directory_->Convicted()) {
          request.add_convicted(incarnation);
        }
        return request;
      });
  directory_->SetAsker([this](int shard) { watch_->AskNow(shard); });
}

ShardWatch::~ShardWatch() { Stop(); }

void ShardWatch::Stop() {
  directory_->SetAsker(nullptr);
  watch_->Stop();
}

void ShardWatch::OnAnswer(int shard, const absl::StatusOr<internal::MemberDescription>& answer) {
  const Shard& peer = options_.shards[shard];
  absl::Status status = answer.status();
  if (answer.ok() && answer->name() != peer.name) {
    // Addresses change hands; its own may lead there again soon.
    status = absl::UnavailableError(absl::StrCat("at its address is ", answer->name()));
  } else if (answer.ok()) {
    status = CheckShard(*answer, options_.fingerprint, options_.numerics_id);
  }
  bool may_inherit = absl::Now() - started_at_ >= options_.join_time;
  {
    absl::MutexLock lock(&mutex_);
    is_loading_[shard] = answer.ok() && answer->state() == internal::MEMBER_STATE_LOADING;
    for (const bool is_loading : is_loading_) may_inherit = may_inherit && !is_loading;
    absl::Status& known = status_[shard];
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
  if (status.ok()) {
    directory_->SetClaim(shard, ClaimOf(*answer));
  } else {
    directory_->SetGone(shard);
  }
  if (may_inherit) directory_->AllowHeirs();
}

absl::Status ShardWatch::Ready() const {
  const std::string missing = directory_->MissingBeyondHeirs();
  if (missing.empty()) return absl::OkStatus();
  std::string reasons;
  for (const internal::PeerView& peer : Peers()) {
    if (!peer.usable()) absl::StrAppend(&reasons, "; ", peer.name(), ": ", peer.problem());
  }
  return absl::UnavailableError(absl::StrCat(missing, reasons));
}

std::vector<internal::PeerView> ShardWatch::Peers() const {
  absl::MutexLock lock(&mutex_);
  const std::vector<bool> quarantined = directory_->Quarantined();
  std::vector<internal::PeerView> peers(options_.shards.size());
  for (size_t shard = 0; shard < peers.size(); ++shard) {
    peers[shard].set_name(options_.shards[shard].name);
    peers[shard].set_usable(status_[shard].ok());
    peers[shard].set_problem(std::string(status_[shard].message()));
    if (quarantined[shard]) {
      peers[shard].set_usable(false);
      peers[shard].set_problem(directory_->Doubt(static_cast<int>(shard)));
    }
    const ShardCounters counters = directory_->counters(static_cast<int>(shard));
    peers[shard].set_hedges(counters.hedges);
    peers[shard].set_compared_answers(counters.compared_answers);
    peers[shard].set_differing_answers(counters.differing_answers);
  }
  return peers;
}

}  // namespace orrery
