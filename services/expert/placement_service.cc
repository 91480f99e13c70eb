#include "services/expert/placement_service.h"

#include <utility>
#include <vector>

#include "base/log.h"
#include "rpc/status.h"

namespace orrery {
namespace {

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::Status NotServing() {
  return absl::UnavailableError("the shard is still loading, or stopping");
}

}  // namespace

void PlacementService::Serve(const Shard* shard, Copies* copies) {
  std::lock_guard lock(mutex_);
  shard_ = shard;
  copies_ = copies;
}

grpc::ServerUnaryReactor* PlacementService::CountRows(grpc::CallbackServerContext* context,
                                                      const internal::CountRowsRequest*,
                                                      internal::RowCounts* counts) {
  return Finish(context, Count(*counts));
}

grpc::ServerUnaryReactor* PlacementService::HoldCopies(grpc::CallbackServerContext* context,
                                                       const internal::HoldCopiesRequest* request,
                                                       internal::HoldCopiesResponse*) {
  return Finish(context, Hold(*request));
}

absl::Status PlacementService::Count(internal::RowCounts& counts) {
  std::lock_guard lock(mutex_);
  if (shard_ == nullptr) return NotServing();
  for (const int layer : shard_->moe_layers()) {
    internal::LayerRowCounts* const of_layer = counts.add_layer();
    of_layer->set_layer(layer);
    for (int expert = 0; expert < shard_->num_experts(); ++expert) {
      of_layer->add_rows(shard_->num_rows({.layer = layer, .expert = expert}));
    }
  }
  return absl::OkStatus();
}

absl::Status PlacementService::Hold(const internal::HoldCopiesRequest& request) {
  std::lock_guard lock(mutex_);
  if (copies_ == nullptr) return NotServing();
  std::vector<ExpertKey> keys;
  for (const internal::ExpertCopy& copy : request.copy()) {
    keys.push_back({.layer = copy.layer(), .expert = copy.expert()});
  }
  RETURN_IF_ERROR(copies_->Want(keys));
  std::string told = request.SerializeAsString();
  if (told != last_told_) LogInfo(request.from(), " wants ", keys.size(), " copies here");
  last_told_ = std::move(told);
  return absl::OkStatus();
}

}  // namespace orrery
