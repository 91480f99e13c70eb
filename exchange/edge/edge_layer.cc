#include "exchange/edge/edge_layer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "exchange/edge/edge.h"
#include "exchange/shard_endpoint.h"

namespace orrery {
namespace {

// How long the caretaker sleeps while nothing moves: how late the end of an idle pipe is noticed.
constexpr absl::Duration kMaxNap = absl::Milliseconds(100);

std::string EdgeName(std::string_view peer, Lane lane) {
  return absl::StrCat(std::string(peer), lane == Lane::kDecode ? " (decode)" : " (bulk)");
}

class EdgeLayer : public ChannelLayer {
 public:
  explicit EdgeLayer(std::shared_ptr<const EdgeShared> shared) : shared_(std::move(shared)) {}

  std::string terms() const override { return shared_->carrier->terms(); }

  ChannelFactory OverChannels(ChannelFactory below) override {
    return [shared = shared_, below = std::move(below)](int peer, Lane lane, ChannelSink* sink) {
      auto edge = std::make_unique<Edge>(shared, EdgeRole::kRank,
                                         EdgeName(absl::StrCat("shard ", peer), lane));
      edge->SetSink(std::shared_ptr<ChannelSink>(std::shared_ptr<void>(), sink));  // not owned
      edge->SetBelow(below(peer, lane, edge.get()));
      return edge;
    };
  }

  absl::StatusOr<std::shared_ptr<ChannelSink>> Connect(ShardEndpoint& endpoint, Lane lane,
                                                       std::shared_ptr<Channel> below) override {
    auto edge = std::make_shared<Edge>(shared_, EdgeRole::kShard, EdgeName("a rank", lane));
    edge->SetBelow(std::move(below));
    ASSIGN_OR_RETURN(std::shared_ptr<ChannelSink> sink,
                     endpoint.Connect(lane, edge, ShardEndpoint::Arrival::kAtAnyTime));
    edge->SetSink(std::move(sink));
    return edge;
  }

 private:
  const std::shared_ptr<const EdgeShared> shared_;
};

}  // namespace

absl::Status CheckEdgeOptions(const EdgeOptions& options) {
  const absl::Duration shortest =
      std::min({options.operation_timeout, options.forming_timeout, options.min_backoff,
                options.max_backoff, options.burial_timeout});
  if (shortest > absl::ZeroDuration() && options.max_edges > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "timeouts, backoffs and max_edges between GPUs must be positive, one duration is ",
      absl::FormatDuration(shortest), " and max_edges ", options.max_edges));
}

std::unique_ptr<ChannelLayer> MakeEdgeLayer(std::unique_ptr<Carrier> carrier,
                                            const EdgeOptions& options) {
  auto shared = std::make_shared<EdgeShared>();
  shared->options = options;
  shared->carrier = std::move(carrier);
  shared->undertaker = std::make_unique<Undertaker>(options.burial_timeout);
  shared->caretaker = std::make_unique<Caretaker>(kMaxNap);
  return std::make_unique<EdgeLayer>(std::move(shared));
}

}  // namespace orrery
