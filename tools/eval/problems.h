// The problems of an evaluation file: one JSON object a line.
//
//   {"id": 7, "family": "add", "messages": [{"role": "user", "content": "2+2?"}], "answer": "4",
//    "prompt_ids": [...], "reference_ids": [...], "min_top2_gap": 3.1}
//
// The last three are optional: what template and tokenizer must give, the greedy ids of an
// independent f32 implementation (end token included), and the smallest distance between its best
// and second logit on the way.
#ifndef ORRERY_TOOLS_EVAL_PROBLEMS_H_
#define ORRERY_TOOLS_EVAL_PROBLEMS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/chat_template.h"

namespace orrery {

struct Problem {
  std::string id;
  std::string family;
  std::vector<ChatMessage> messages;
  std::string answer;
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> reference_ids;
  // Where the file does not say, a reference counts as clear.
  double min_top2_gap = 1e9;
};

// INVALID_ARGUMENT with file and line.
absl::StatusOr<std::vector<Problem>> ReadProblems(const std::string& path);

}  // namespace orrery

#endif  // ORRERY_TOOLS_EVAL_PROBLEMS_H_
