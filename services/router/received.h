// What a client says that it has received of an answer, checked.
//
//   ASSIGN_OR_RETURN(std::vector<internal::ChoiceSoFar> received,
//                    TakeReceived(model, request.resume(), sequence));
//
// It may say what it likes: then the answer continues behind that, as if it had come; the limits of the
// request hold, and the router's rules are no weaker for it.
#ifndef ORRERY_SERVICES_ROUTER_RECEIVED_H_
#define ORRERY_SERVICES_ROUTER_RECEIVED_H_

#include <vector>

#include "base/status.h"
#include "proto/attention.pb.h"
#include "proto/orrery.pb.h"
#include "services/router/served_model.h"

namespace orrery {

// One per choice of `sequence`. INVALID_ARGUMENT with field, value and limit.
absl::StatusOr<std::vector<internal::ChoiceSoFar>> TakeReceived(
    const ServedModel& model, const v1::Resume& resume, const internal::SequenceRequest& sequence);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_RECEIVED_H_
