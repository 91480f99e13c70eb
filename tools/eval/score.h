// What an evaluation found: per family, and against the reference.
//
//   Scores scores;
//   for (i ...) scores.Add(problems[i], answers[i]);
//   std::fputs(scores.ToString().c_str(), stdout);
#ifndef ORRERY_TOOLS_EVAL_SCORE_H_
#define ORRERY_TOOLS_EVAL_SCORE_H_

#include <map>
#include <string>
#include <vector>

#include "tools/eval/examinee.h"
#include "tools/eval/problems.h"

namespace orrery {

// Below this distance between best and second logit an f32 engine may choose either.
inline constexpr double kClearGap = 1e-3;

struct FamilyScore {
  int num_problems = 0;
  int num_right = 0;           // the content is the expected answer, and the answer ended by itself
  int num_with_reference = 0;  // problems whose file gives reference ids, by a clear gap
  int num_same_ids = 0;        // of these, answered with the very same ids
};

class Scores {
 public:
  // In the order of the file: the digest depends on it.
  void Add(const Problem& problem, const ExamAnswer& answer);

  const std::map<std::string, FamilyScore>& families() const { return families_; }
  FamilyScore total() const;
  int num_wrong_prompts() const { return num_wrong_prompts_; }
  // Nothing differs from the reference: neither prompts nor clear ids.
  bool agrees() const;
  // Over all ids and log-probabilities, bit for bit: equal in every topology of one numerics id.
  std::string Digest() const;
  // Table, totals, and the first few problems that differ.
  std::string ToString() const;

 private:
  std::map<std::string, FamilyScore> families_;
  int num_wrong_prompts_ = 0;
  std::vector<std::string> differing_;
  std::string bytes_;  // what the digest covers
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_EVAL_SCORE_H_
