// Which experts a row goes to, from its scores: groups first, then experts, as GateParams says.
//
//   choice.Choose(scores, params, ids);   // ids[0, topk), ascending
//
// Compares and adds only, so it needs no instruction set. Ties go to the lower index. A NaN counts
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
  void Choose(const float* scores, const GateParams& params, int32_t* ids);

 private:
  void BanRejectedGroups(const GateParams& params);

  std::vector<float> choice_;        // [num_experts] score plus bias
  std::vector<float> group_scores_;  // [num_groups]
  std::vector<char> banned_;         // [num_experts] cannot be chosen (any more)
  std::vector<char> kept_;           // [num_groups]
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_EXPERT_CHOICE_H_
