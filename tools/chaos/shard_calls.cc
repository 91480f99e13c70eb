#include "tools/chaos/shard_calls.h"

#include <map>
#include <numeric>

#include "absl/time/clock.h"
#include "grpcpp/client_context.h"
#include "placement/balancer.h"
#include "proto/member.grpc.pb.h"
#include "proto/placement.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/deadline.h"
#include "rpc/status.h"

namespace orrery {
namespace {

// On a machine that 32 clients keep busy, connecting alone may take seconds.
constexpr absl::Duration kCallTimeout = absl::Seconds(30);

void Prepare(grpc::ClientContext& context) {
  SetDeadline(context, absl::Now() + kCallTimeout);
  context.set_wait_for_ready(true);
}

}  // namespace

absl::StatusOr<internal::MemberDescription> DescribeShard(const std::string& address) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, MakeChannel(address, {}));
  grpc::ClientContext context;
  Prepare(context);
  internal::MemberDescription description;
  RETURN_IF_ERROR(
      FromGrpcStatus(internal::Member::NewStub(channel)->Describe(&context, {}, &description)));
  return description;
}

absl::StatusOr<internal::RowCounts> CountRows(const std::string& address) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, MakeChannel(address, {}));
  grpc::ClientContext context;
  Prepare(context);
  internal::RowCounts counts;
  RETURN_IF_ERROR(
      FromGrpcStatus(internal::Placement::NewStub(channel)->CountRows(&context, {}, &counts)));
  return counts;
}

absl::Status HoldCopies(const std::string& address, absl::Span<const ExpertKey> copies) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, MakeChannel(address, {}));
  internal::HoldCopiesRequest request;
  request.set_from("orrery chaos");
  for (const ExpertKey& key : copies) {
    internal::ExpertCopy* const copy = request.add_copy();
    copy->set_layer(key.layer);
    copy->set_expert(key.expert);
  }
  grpc::ClientContext context;
  Prepare(context);
  internal::HoldCopiesResponse response;
  return FromGrpcStatus(
      internal::Placement::NewStub(channel)->HoldCopies(&context, request, &response));
}

double ImbalanceBetween(absl::Span<const internal::RowCounts> before,
                        absl::Span<const internal::RowCounts> after) {
  std::map<int, std::vector<double>> loads;  // by layer: by shard
  const auto add = [&](absl::Span<const internal::RowCounts> counts, double factor) {
    for (size_t shard = 0; shard < counts.size(); ++shard) {
      for (const internal::LayerRowCounts& layer : counts[shard].layer()) {
        std::vector<double>& of_layer = loads[layer.layer()];
        of_layer.resize(counts.size());
        of_layer[shard] += factor * static_cast<double>(std::accumulate(
                                        layer.rows().begin(), layer.rows().end(), int64_t{0}));
      }
    }
  };
  add(before, -1);
  add(after, 1);
  std::vector<std::vector<double>> layers;
  for (auto& [layer, of_layer] : loads) layers.push_back(std::move(of_layer));
  return Imbalance(layers);
}

}  // namespace orrery
