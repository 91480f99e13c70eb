#include "tools/check/check_model.h"

#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"

namespace orrery {

absl::Status CheckModel(const GoldenFile& golden, const CheckModelOptions& options,
                        Report& report) {
  ASSIGN_OR_RETURN(const GoldenRun run,
                   GoldenRun::Open(golden, {.numerics = options.cluster.numerics,
                                            .force_routing = options.force_routing}));
  LocalClusterOptions cluster_options = options.cluster;
  cluster_options.model_dir = golden.dir();
  cluster_options.with_mtp = run.with_mtp();
  cluster_options.max_context_tokens = run.num_positions();
  ASSIGN_OR_RETURN(const std::unique_ptr<LocalCluster> cluster,
                   LocalCluster::Create(cluster_options));
  report.Title(absl::StrCat(golden.dir(), "  (", cluster->Describe(),
                            options.force_routing ? ", routing forced" : "", ")"));
  std::vector<StepParts> ranks;
  for (int rank = 0; rank < cluster->num_ranks(); ++rank) ranks.push_back(cluster->parts(rank));
  return run.Check(ranks, report);
}

}  // namespace orrery
