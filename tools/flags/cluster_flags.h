// Flags that describe a cluster to be made: which model, how many ranks and shards, which numbers,
// which limits.
// Shared by every command that makes one; list kClusterFlags among the flag files of such a
// command.
#ifndef ORRERY_TOOLS_FLAGS_CLUSTER_FLAGS_H_
#define ORRERY_TOOLS_FLAGS_CLUSTER_FLAGS_H_

#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "tools/launch/launcher.h"
#include "tools/launch/topology.h"

ABSL_DECLARE_FLAG(std::string, model);
ABSL_DECLARE_FLAG(int, ranks);
ABSL_DECLARE_FLAG(int, shards);
ABSL_DECLARE_FLAG(std::string, precision);
ABSL_DECLARE_FLAG(std::string, row_format);
ABSL_DECLARE_FLAG(std::string, ffn_weights);
ABSL_DECLARE_FLAG(std::string, ffn_products);
ABSL_DECLARE_FLAG(std::string, linear_weights);
ABSL_DECLARE_FLAG(int, threads);
ABSL_DECLARE_FLAG(std::string, backend);
ABSL_DECLARE_FLAG(std::string, cpu_variant);
ABSL_DECLARE_FLAG(std::string, bin_dir);
ABSL_DECLARE_FLAG(absl::Duration, start_timeout);

namespace orrery {

inline constexpr char kClusterFlags[] = "tools/flags/cluster_flags.cc";

// --model, or the bundled one.
absl::StatusOr<std::string> ModelDirFromFlags();
// --gpus; 0 if it is empty. INVALID_ARGUMENT for what is no number of a GPU.
absl::StatusOr<std::vector<int>> GpusFromFlags();
// INVALID_ARGUMENT for a value that does not exist, with those that do. A dense model gets no
// shards. Limits concern clusters of processes only.
absl::StatusOr<Topology> TopologyFromFlags();
// INVALID_ARGUMENT likewise.
absl::StatusOr<LaunchOptions> LaunchOptionsFromFlags();

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_CLUSTER_FLAGS_H_
