// What the whole-cluster tests share: real processes of all three roles with the bundled model, and
// its problems.
//
//   // Fails the test if it cannot:
//   std::unique_ptr<Launcher> cluster = StartReady({.num_ranks = 2, .num_shards = 4});
//   Answer answer = Ask(*cluster, problem.messages);
#ifndef ORRERY_TESTS_CLUSTER_CLUSTER_TEST_UTIL_H_
#define ORRERY_TESTS_CLUSTER_CLUSTER_TEST_UTIL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/orrery_client.h"
#include "tools/launch/launcher.h"

namespace orrery {

// Long enough for a busy machine and a build with sanitizers; nothing waits for it when all is
// well.
inline constexpr absl::Duration kPatience = absl::Minutes(2);

inline constexpr char kAbacusDir[] = "models/abacus";

LaunchOptions TestLaunchOptions();
Topology AbacusTopology(int num_ranks, int num_shards,
                        internal::Precision precision = internal::PRECISION_BF16);

// A cluster of which every member is ready. Null, and a failure, if it does not come up.
std::unique_ptr<Launcher> StartReady(const Topology& topology);
// A cluster from this file, not waited for.
std::unique_ptr<Launcher> StartFrom(const internal::ClusterFile& cluster,
                                    const LaunchOptions& options = TestLaunchOptions());

OrreryClient Connect(const Launcher& cluster);

struct Problem {
  v1::ChatMessages messages;
  std::string answer;
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> reference_ids;
};
// One solved problem per family of the model's eval.jsonl, the first `num_problems` families.
std::vector<Problem> ReadProblems(int num_problems);

// A copy of the bundled model's folder in which one weight differs in its last bit.
std::string MakeModelWithOtherWeights();

}  // namespace orrery

#endif  // ORRERY_TESTS_CLUSTER_CLUSTER_TEST_UTIL_H_
