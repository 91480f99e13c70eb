// What a shard tells the balancer, and hears from it: proto/placement.proto over the shard's row counters and
// its copies.
//
//   PlacementService service;            // answers UNAVAILABLE
//   service.Serve(shard, copies);        // from here on
//   service.Serve(nullptr, nullptr);     // before they go
//
// Thread-safe.
#ifndef ORRERY_SERVICES_EXPERT_PLACEMENT_SERVICE_H_
#define ORRERY_SERVICES_EXPERT_PLACEMENT_SERVICE_H_

#include <mutex>
#include <string>

#include "base/status.h"
#include "proto/placement.grpc.pb.h"
#include "services/expert/copies.h"
#include "services/expert/shard.h"

namespace orrery {

class PlacementService : public internal::Placement::CallbackService {
 public:
  // Both or none; what is given must stay until it is replaced.
  void Serve(const Shard* shard, Copies* copies);

  grpc::ServerUnaryReactor* CountRows(grpc::CallbackServerContext* context,
                                      const internal::CountRowsRequest* request,
                                      internal::RowCounts* counts) override;
  grpc::ServerUnaryReactor* HoldCopies(grpc::CallbackServerContext* context,
                                       const internal::HoldCopiesRequest* request,
                                       internal::HoldCopiesResponse* response) override;

 private:
  absl::Status Count(internal::RowCounts& counts);
  absl::Status Hold(const internal::HoldCopiesRequest& request);

  std::mutex mutex_;
  // All guarded by mutex_.
  const Shard* shard_ = nullptr;
  Copies* copies_ = nullptr;
  std::string last_told_;  // serialized, so that the log has what is new only
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_PLACEMENT_SERVICE_H_
