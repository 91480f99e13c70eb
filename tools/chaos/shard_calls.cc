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

// On a machine that is busy with the cluster.
constexpr absl::Duration kCallTimeout = absl::Seconds(30);

// One unary call, which waits for its connection.
template <typename Service, typename Request, typename Response>
absl::StatusOr<Response> Call(const std::string& address, const Request& request,
                              grpc::Status (Service::Stub::*method)(grpc::ClientContext*,
                                                                    const Request&, Response*)) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, MakeChannel(address, {}));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  SetDeadline(context, absl::Now() + kCallTimeout);
  const auto stub = Service::NewStub(channel);
  Response response;
  RETURN_IF_ERROR(FromGrpcStatus((stub.get()->*method)(&context, request, &response)));
  return response;
}

}  // namespace

absl::StatusOr<internal::MemberDescription> DescribeShard(const std::string& address) {
  return Call<internal::Member>(address, internal::DescribeRequest(),
                                &internal::Member::Stub::Describe);
}

absl::StatusOr<internal::RowCounts> CountRows(const std::string& address) {
  return Call<internal::Placement>(address, internal::CountRowsRequest(),
                                   &internal::Placement::Stub::CountRows);
}

absl::Status HoldCopies(const std::string& address, absl::Span<const ExpertKey> copies) {
  internal::HoldCopiesRequest request;
  request.set_from("orrery chaos");
  for (const ExpertKey& key : copies) {
    internal::ExpertCopy* const copy = request.add_copy();
    copy->set_layer(key.layer);
    copy->set_expert(key.expert);
  }
  return Call<internal::Placement>(address, request, &internal::Placement::Stub::HoldCopies)
      .status();
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
