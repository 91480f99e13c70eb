// The numbers that a cluster file asks for, in the words of the code.
#ifndef ORRERY_MODEL_CLUSTER_NUMERICS_H_
#define ORRERY_MODEL_CLUSTER_NUMERICS_H_

#include "kernels/factory/make_kernels.h"
#include "model/numerics.h"
#include "proto/cluster.pb.h"

namespace orrery {

// Unset fields get their documented defaults.
Numerics NumericsFromProto(const internal::Numerics& proto);
Backend BackendFromProto(const internal::Numerics& proto);

}  // namespace orrery

#endif  // ORRERY_MODEL_CLUSTER_NUMERICS_H_
