#include "exchange/nccl/nccl_layer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "exchange/nccl/nccl_edge.h"
#include "exchange/shard_endpoint.h"

namespace orrery {
namespace {

// How long the caretaker sleeps while nothing moves: how late the end of an idle communicator is noticed.
constexpr absl::Duration kMaxNap = absl::Milliseconds(100);

std::string EdgeName(std::string_view peer, Lane lane) {
  return absl::StrCat(std::string(peer), lane == Lane::kDecode ? " (decode)" : " (bulk)");
}

class NcclLayer : public ChannelLayer {
 public:
  explicit NcclLayer(std::shared_ptr<const NcclShared> shared) : shared_(std::move(shared)) {}

  ChannelFactory OverChannels(ChannelFactory below) override {
    return [shared = shared_, below = std::move(below)](int peer, Lane lane, ChannelSink* sink) {
      auto edge = std::make_unique<NcclEdge>(shared, NcclEdge::Role::kRank,
                                             EdgeName(absl::StrCat("shard ", peer), lane));
      edge->SetSink(std::shared_ptr<ChannelSink>(std::shared_ptr<void>(), sink));  // not owned
      edge->SetBelow(below(peer, lane, edge.get()));
      return edge;
    };
  }

  absl::StatusOr<std::shared_ptr<ChannelSink>> Connect(ShardEndpoint& endpoint, Lane lane,
                                                       std::shared_ptr<Channel> below) override {
    auto edge =
        std::make_shared<NcclEdge>(shared_, NcclEdge::Role::kShard, EdgeName("a rank", lane));
    edge->SetBelow(std::move(below));
    ASSIGN_OR_RETURN(std::shared_ptr<ChannelSink> sink, endpoint.Connect(lane, edge));
    edge->SetSink(std::move(sink));
    return edge;
  }

 private:
  const std::shared_ptr<const NcclShared> shared_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeNcclLayer(const NcclOptions& options,
                                                            std::unique_ptr<Device> device) {
  const absl::Duration shortest = std::min({options.operation_timeout, options.forming_timeout,
                                            options.min_backoff, options.max_backoff});
  if (shortest <= absl::ZeroDuration() || options.max_edges <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("timeouts, backoffs and max_edges of NCCL must be positive, one duration is ",
                     absl::FormatDuration(shortest), " and max_edges ", options.max_edges));
  }
  auto shared = std::make_shared<NcclShared>();
  shared->options = options;
  ASSIGN_OR_RETURN(shared->nccl_version, Communicator::NcclVersion());
  shared->device = std::move(device);
  ASSIGN_OR_RETURN(shared->slots,
                   SlotPool::Make(shared->device.get(), options.max_edges * kSlotsPerEdge));
  shared->undertaker = std::make_unique<Undertaker>();
  shared->caretaker = std::make_unique<Caretaker>(kMaxNap);
  LogInfo("exchange: NCCL ", NcclVersionText(shared->nccl_version), " on ", shared->device->name(),
          ", for up to ", options.max_edges, " connections");
  return std::make_unique<NcclLayer>(std::move(shared));
}

}  // namespace orrery
