// What the golden.json of a model case expects, checked: sizes fit together, ids and experts exist.
//
//   ASSIGN_OR_RETURN(const GoldenModel expected, ReadGoldenModel(golden, config));
//
// Decoding is appended to the prompt: row i of everything is position i. The arrays of single layers
// are left in the file.
#ifndef ORRERY_TOOLS_CHECK_GOLDEN_MODEL_H_
#define ORRERY_TOOLS_CHECK_GOLDEN_MODEL_H_

#include <cstdint>
#include <map>
#include <vector>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "tools/check/golden_file.h"
#include "tools/check/trace.h"

namespace orrery {

// Of the MTP module. Row i joins the hidden state of position i with next_ids[i], the id behind it.
struct GoldenMtp {
  std::vector<int32_t> next_ids;    // of the prompt, then the greedy ids that drafts follow
  std::vector<float> logits;        // [num_prompt, vocab]; empty: the case has no module
  std::vector<int32_t> draft_ids;   // argmax of the rows num_prompt - 1 ... end
  std::vector<float> draft_logits;  // [draft_ids, vocab]
};

struct GoldenModel {
  std::vector<int32_t> ids;  // prompt, then the greedy ids fed back
  int num_prompt = 0;
  std::vector<int32_t> next_ids;  // argmax of the rows num_prompt - 1 ... end
  std::vector<float> logits;      // [num_prompt + greedy rows - 1, vocab]
  // By layer; weights cover the prompt, and decoding if given. The module's is layer num_layers.
  std::map<int, Routing> routing;
  GoldenMtp mtp;
  bool has_mtp() const { return !mtp.logits.empty(); }
};

// INVALID_ARGUMENT with the file and what is wrong in it.
absl::StatusOr<GoldenModel> ReadGoldenModel(const GoldenFile& golden, const ModelConfig& config);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_GOLDEN_MODEL_H_
