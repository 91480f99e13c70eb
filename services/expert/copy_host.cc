#include "services/expert/copy_host.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "model/cluster_numerics.h"
#include "model/identity/fingerprint_proto.h"
#include "model/moe_layers.h"
#include "model/weight_files.h"
#include "placement/heirs.h"
#include "rpc/channel.h"
#include "rpc/cluster_file.h"
#include "rpc/cluster_tls.h"

namespace orrery {
namespace {

// Shards that do not come back are asked less and less often.
constexpr WatchOptions kWatchOptions = {.max_failure_delay = absl::Seconds(5)};

std::vector<std::string> NamesOf(const internal::ClusterFile& cluster) {
  std::vector<std::string> names;
  for (const internal::ClusterMember& shard : cluster.expert()) names.push_back(shard.name());
  return names;
}

internal::HeldExperts& HeldOfLayer(internal::MemberDescription& description, int layer) {
  for (internal::HeldExperts& held : *description.mutable_held()) {
    if (held.layer() == layer) return held;
  }
  internal::HeldExperts& held = *description.add_held();
  held.set_layer(layer);
  return held;
}

}  // namespace

int MaxCopies(const internal::ClusterFile& cluster, const ModelConfig& config, bool with_mtp,
              int shard_index, size_t expert_bytes) {
  const std::vector<ExpertRange> homes = HomePlacement(config.num_experts, SpareShards(cluster));
  const int num_layers = static_cast<int>(MoeLayers(config, with_mtp).size());
  const int num_elsewhere = num_layers * (config.num_experts - homes[shard_index].size());
  const internal::Limits& limits = cluster.limits();
  if (limits.heir_bytes() > 0) {
    return static_cast<int>(
        std::min<int64_t>(limits.heir_bytes() / std::max<size_t>(expert_bytes, 1), num_elsewhere));
  }
  int most_held = 0, num_homes = 0;
  for (const ExpertRange& home : homes) most_held = std::max(most_held, home.size());
  for (const internal::ClusterMember& shard : cluster.expert()) num_homes += !shard.spare();
  const int of_a_home = num_layers * most_held;
  const int of_a_spare = cluster.expert(shard_index).spare() ? of_a_home : 0;
  return std::min(NeededRoom(of_a_home, num_homes, limits.max_failed_shards()) + of_a_spare,
                  num_elsewhere);
}

CopyHost::CopyHost(const Parts& parts)
    : parts_(parts),
      others_(NamesOf(*parts.cluster),
              HomePlacement(parts.shard_parts.config.num_experts, SpareShards(*parts.cluster)),
              parts.shard_index) {}

absl::StatusOr<std::unique_ptr<CopyHost>> CopyHost::Create(const Parts& parts) {
  std::unique_ptr<CopyHost> host(new CopyHost(parts));
  ShardParts own = parts.shard_parts;
  host->stream_ = own.device->MakeStream();
  ASSIGN_OR_RETURN(host->kernels_,
                   MakeKernels(BackendFromProto(parts.cluster->numerics()), parts.cpu_variant,
                               host->stream_.get(), {.num_threads = 1}));
  own.kernels = host->kernels_.get();
  own.stream = host->stream_.get();
  CopyHost* const self = host.get();
  host->copies_ = std::make_unique<Copies>(
      own,
      CopiesOptions{.max_copies = parts.max_copies,
                    .home = HomePlacement(parts.shard_parts.config.num_experts,
                                          SpareShards(*parts.cluster))[parts.shard_index],
                    .is_served = [self](ExpertKey key) { return self->IsServed(key); },
                    .is_held_before = [self](ExpertKey key) { return self->IsHeldBefore(key); },
                    .hand_over =
                        [self](ExpertKey key, FeedForwardWeights weights) {
                          self->HandOver(key, std::move(weights));
                        },
                    .drop = [self](ExpertKey key) { self->Drop(key); }},
      parts.loaded_bytes);
  // The server, which calls it, ends before the host.
  parts.member->SetOnAsked([self](const internal::DescribeRequest& request) {
    std::lock_guard lock(self->mutex_);
    self->others_.OnConvicted(request.convicted(), absl::Now());
  });
  parts.shard->SetHeir(
      [self](ExpertKey key, int num_rows) { return self->copies_->Ask(key, num_rows); });
  return host;
}

void CopyHost::Start(ServeLoop* loop) {
  loop_ = loop;
  copies_->Start([this] { return CheckFiles(); });
}

void CopyHost::Stop() {
  parts_.member->SetOnAsked({});
  if (copies_ != nullptr) copies_->Stop();
  if (watch_.has_value()) watch_->Stop();
}

absl::Status CopyHost::CheckFiles() {
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

void CopyHost::Describe(internal::MemberDescription& description) const {
  const std::optional<int> room = copies_->room();
  if (!room.has_value()) return;
  description.mutable_heir_offer()->set_room(is_whole_ ? *room : 0);
  description.mutable_heir_offer()->set_num_copies(copies_->num_held());
  description.mutable_heir_offer()->set_num_loading(is_whole_ ? copies_->num_loading() : 0);
}

bool CopyHost::IsServed(ExpertKey key) const {
  std::lock_guard lock(mutex_);
  return others_.ServesItsOwn(key, absl::Now());
}

bool CopyHost::IsHeldBefore(ExpertKey key) const {
  std::lock_guard lock(mutex_);
  return others_.IsHeldBefore(key, absl::Now());
}

void CopyHost::HandOver(ExpertKey key, FeedForwardWeights weights) {
  loop_->Change([&](Shard& shard) { shard.Add(key, std::move(weights)); });
  parts_.member->Update([&](internal::MemberDescription& description) {
    auto& experts = *HeldOfLayer(description, key.layer).mutable_expert();
    experts.Add(key.expert);
    std::sort(experts.begin(), experts.end());
  });
  LogInfo("loaded layer ", key.layer, ", expert ", key.expert, " for others");
  if (!watch_.has_value()) WatchOthers();
}

void CopyHost::Drop(ExpertKey key) {
  // First, so that no rank is sent here for what is gone.
  parts_.member->Update([&](internal::MemberDescription& description) {
    auto& experts = *HeldOfLayer(description, key.layer).mutable_expert();
    experts.erase(std::remove(experts.begin(), experts.end(), key.expert), experts.end());
  });
  loop_->Change([&](Shard& shard) { shard.Remove(key); });
  LogInfo("dropped layer ", key.layer, ", expert ", key.expert, ", which others hold");
}

void CopyHost::WatchOthers() {
  const TlsFiles tls = MemberTls(*parts_.cluster, internal::ROLE_EXPERT, {internal::ROLE_EXPERT});
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int shard = 0; shard < parts_.cluster->expert_size(); ++shard) {
    if (shard == parts_.shard_index) continue;
    absl::StatusOr<std::shared_ptr<grpc::Channel>> channel =
        MakeChannel(parts_.cluster->expert(shard).address(), tls, {.fixed_window = true});
    if (!channel.ok()) continue;  // then it is never seen to serve
    watched_.push_back(shard);
    channels.push_back(*std::move(channel));
  }
  watch_.emplace(channels, kWatchOptions,
                 [this](int index, const absl::StatusOr<internal::MemberDescription>& answer) {
                   OnDescription(watched_[index], answer);
                 });
}

void CopyHost::OnDescription(int shard, const absl::StatusOr<internal::MemberDescription>& answer) {
  OtherShards::Description description;
  if (answer.ok()) {
    description.is_serving = answer->name() == parts_.cluster->expert(shard).name() &&
                             answer->state() == internal::MEMBER_STATE_READY &&
                             answer->numerics_id() == parts_.numerics_id;
    description.incarnation = answer->incarnation();
    for (const internal::HeldExperts& layer : answer->held()) {
      for (const int expert : layer.expert()) description.held.insert({layer.layer(), expert});
    }
  }
  std::lock_guard lock(mutex_);
  others_.OnDescription(shard, std::move(description));
}

}  // namespace orrery
