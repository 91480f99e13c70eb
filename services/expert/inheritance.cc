#include "services/expert/inheritance.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/log.h"
#include "model/cluster_numerics.h"
#include "model/identity/fingerprint_proto.h"
#include "model/weight_files.h"
#include "placement/heirs.h"
#include "rpc/channel.h"
#include "rpc/cluster_tls.h"

namespace orrery {
namespace {

// Shards that do not come back are asked less and less often.
constexpr WatchOptions kWatchOptions = {.max_failure_delay = absl::Seconds(5)};

internal::HeldExperts& HeldOfLayer(internal::MemberDescription& description, int layer) {
  for (internal::HeldExperts& held : *description.mutable_held()) {
    if (held.layer() == layer) return held;
  }
  internal::HeldExperts& held = *description.add_held();
  held.set_layer(layer);
  return held;
}

}  // namespace

Inheritance::Inheritance(const Parts& parts)
    : parts_(parts),
      placement_(DefaultPlacement({.num_experts = parts.shard_parts.config.num_experts,
                                   .num_shards = parts.cluster->expert_size()})),
      is_owner_back_(parts.cluster->expert_size()) {}

absl::StatusOr<std::unique_ptr<Inheritance>> Inheritance::Create(const Parts& parts) {
  std::unique_ptr<Inheritance> inheritance(new Inheritance(parts));
  ShardParts own = parts.shard_parts;
  inheritance->stream_ = own.device->MakeStream();
  ASSIGN_OR_RETURN(inheritance->kernels_,
                   MakeKernels(BackendFromProto(parts.cluster->numerics()), parts.cpu_variant,
                               inheritance->stream_.get(), {.num_threads = 1}));
  own.kernels = inheritance->kernels_.get();
  own.stream = inheritance->stream_.get();
  Inheritance* const self = inheritance.get();
  inheritance->heir_ = std::make_unique<Heir>(
      own,
      HeirOptions{.max_experts = inheritance->MaxExperts(),
                  .is_owned = [self](ExpertKey key) { return self->IsOwned(key); },
                  .hand_over =
                      [self](ExpertKey key, FeedForwardWeights weights) {
                        self->HandOver(key, std::move(weights));
                      },
                  .drop = [self](ExpertKey key) { self->Drop(key); }},
      parts.loaded_bytes);
  parts.shard->SetHeir(
      [self](ExpertKey key, int num_rows) { return self->heir_->Ask(key, num_rows); });
  return inheritance;
}

void Inheritance::Start(ServeLoop* loop) {
  loop_ = loop;
  heir_->Start([this] { return CheckFiles(); });
}

void Inheritance::Stop() {
  heir_->Stop();
  if (watch_.has_value()) watch_->Stop();
}

int Inheritance::MaxExperts() const {
  int num_held = 0, most_held = 0;
  for (const LayerExperts& layer : parts_.shard->held()) {
    num_held += static_cast<int>(layer.experts.size());
  }
  for (const ExpertRange& range : placement_) most_held = std::max(most_held, range.size());
  const internal::Limits& limits = parts_.cluster->limits();
  if (limits.heir_bytes() == 0) {
    const int num_layers = static_cast<int>(parts_.shard->held().size());
    return NeededRoom(num_layers * most_held, parts_.cluster->expert_size(),
                      limits.max_failed_shards());
  }
  const ShardParts& shard = parts_.shard_parts;
  const int64_t expert_bytes =
      num_held > 0 ? *parts_.loaded_bytes / num_held : Shard::EstimateExpertBytes(shard.config);
  return static_cast<int>(limits.heir_bytes() / std::max<int64_t>(expert_bytes, 1));
}

absl::Status Inheritance::CheckFiles() {
  const WeightFiles& files = *parts_.shard_parts.files;
  const std::vector<std::string> missing = files.MissingFiles();
  if (!missing.empty()) {
    LogInfo("offers to load no experts of other shards, as its folder lacks ", missing.size(),
            " files of the model: ", absl::StrJoin(missing, ", "));
  }
  ASSIGN_OR_RETURN(const Fingerprint fingerprint,
                   files.ComputeFingerprint(FingerprintScope::kPresentFiles));
  parts_.member->Update([&](internal::MemberDescription& description) {
    *description.mutable_fingerprint() = ToProto(fingerprint);
  });
  is_whole_ = missing.empty();
  return absl::OkStatus();
}

void Inheritance::Describe(internal::MemberDescription& description) const {
  const std::optional<int> room = heir_->room();
  if (!room.has_value()) return;
  description.mutable_heir_offer()->set_room(is_whole_ ? *room : 0);
  description.mutable_heir_offer()->set_num_inherited(heir_->num_inherited());
}

bool Inheritance::IsOwned(ExpertKey key) const {
  for (size_t shard = 0; shard < placement_.size(); ++shard) {
    const ExpertRange& range = placement_[shard];
    if (key.expert >= range.begin && key.expert < range.end) return is_owner_back_[shard];
  }
  return false;
}

void Inheritance::HandOver(ExpertKey key, FeedForwardWeights weights) {
  loop_->Change([&](Shard& shard) { shard.Add(key, std::move(weights)); });
  parts_.member->Update([&](internal::MemberDescription& description) {
    auto& experts = *HeldOfLayer(description, key.layer).mutable_expert();
    experts.Add(key.expert);
    std::sort(experts.begin(), experts.end());
  });
  LogInfo("loaded layer ", key.layer, ", expert ", key.expert, " for others");
  if (!watch_.has_value()) WatchOwners();
}

void Inheritance::Drop(ExpertKey key) {
  // First, so that no rank is sent here for what is gone.
  parts_.member->Update([&](internal::MemberDescription& description) {
    auto& experts = *HeldOfLayer(description, key.layer).mutable_expert();
    experts.erase(std::remove(experts.begin(), experts.end(), key.expert), experts.end());
  });
  loop_->Change([&](Shard& shard) { shard.Remove(key); });
  LogInfo("dropped layer ", key.layer, ", expert ", key.expert, ", whose own shard is back");
}

void Inheritance::WatchOwners() {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int shard = 0; shard < parts_.cluster->expert_size(); ++shard) {
    if (shard == parts_.shard_index) continue;
    absl::StatusOr<std::shared_ptr<grpc::Channel>> channel =
        MakeChannel(parts_.cluster->expert(shard).address(), TlsFilesOf(*parts_.cluster));
    if (!channel.ok()) continue;  // then it is never seen to be back
    watched_.push_back(shard);
    channels.push_back(*std::move(channel));
  }
  watch_.emplace(channels, kWatchOptions,
                 [this](int index, const absl::StatusOr<internal::MemberDescription>& answer) {
                   is_owner_back_[watched_[index]] =
                       answer.ok() && answer->state() == internal::MEMBER_STATE_READY &&
                       answer->numerics_id() == parts_.numerics_id;
                 });
}

}  // namespace orrery
