// The in-process cluster that tools/flags/cluster_flags.h describes.
#ifndef ORRERY_TOOLS_FLAGS_LOCAL_FLAGS_H_
#define ORRERY_TOOLS_FLAGS_LOCAL_FLAGS_H_

#include "base/status.h"
#include "tools/local_cluster.h"

namespace orrery {

inline constexpr char kLocalFlags[] = "tools/flags/local_flags.cc";

// `default_precision` stands in for an empty --precision. INVALID_ARGUMENT for a value that does
// not exist.
absl::StatusOr<LocalClusterOptions> LocalClusterFromFlags(Precision default_precision);

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_LOCAL_FLAGS_H_
