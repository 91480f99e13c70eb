// Which experts a row goes to, from its scores: groups first, then experts, as GateParams says.
//
//   choice.Choose(scores, params, ids);   // ids[0, topk), ascending
//
// Compares and adds only, with what every x86-64 has. Ties go to the lower index. A NaN counts
// as the lowest value: the answer is of no use then, but still names distinct experts of kept
// groups.
//
// Threads: one object serves one thread; it keeps its working memory. Errors: none, see CheckGate.
#ifndef ORRERY_KERNELS_CPU_EXPERT_CHOICE_H_
#define ORRERY_KERNELS_CPU_EXPERT_CHOICE_H_

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace orrery {

class ExpertChoice {
 public:
  // Experts whose largest value is known; taking the best one then looks through one segment only.
  static constexpr int kSegment = 16;

  // Choose allocates nothing afterwards.
  void Reserve(const GateParams& params);
  void Choose(const float* scores, const GateParams& params, int32_t* ids);

 private:
  void BanRejectedGroups(const GateParams& params);
  // Index of the largest value that is not banned, which it bans; there is one.
  int TakeBest(int num_experts);

  std::vector<float> choice_;        // [num_experts] score plus bias, the lowest value if banned
  std::vector<float> segments_;      // [num_experts / kSegment] the largest of each
  std::vector<float> group_scores_;  // [num_groups]
  std::vector<char> banned_;         // [num_experts] cannot be chosen (any more)
  std::vector<char> kept_;           // [num_groups]
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_EXPERT_CHOICE_H_
