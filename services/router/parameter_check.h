// The ranges and the contradictions of a request's parameters, as proto/orrery.proto states them.
//
//   RETURN_IF_ERROR(CheckParameters(model, request));
//
// Knows nothing of the prompt: whether the answer fits behind it is prompt.h's to say.
//
// Errors: INVALID_ARGUMENT for the first rule that is broken, with field, value and limit. Texts of users
// are not repeated in it.
#ifndef ORRERY_SERVICES_ROUTER_PARAMETER_CHECK_H_
#define ORRERY_SERVICES_ROUTER_PARAMETER_CHECK_H_

#include "base/status.h"
#include "proto/orrery.pb.h"
#include "services/router/served_model.h"

namespace orrery {

absl::Status CheckParameters(const ServedModel& model, const v1::GenerateRequest& request);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_PARAMETER_CHECK_H_
