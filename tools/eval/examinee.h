// Who is asked: a running cluster, or one inside this process.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Examinee> examinee, MakeLocalExaminee(options));
//   ASSIGN_OR_RETURN(ExamAnswer answer, examinee->Ask(problem, 256));
//
// Threads: Ask may be called from num_threads() threads at a time.
#ifndef ORRERY_TOOLS_EVAL_EXAMINEE_H_
#define ORRERY_TOOLS_EVAL_EXAMINEE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "client/orrery_client.h"
#include "tools/eval/problems.h"
#include "tools/local_cluster.h"

namespace orrery {

struct ExamAnswer {
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> ids;  // end token included
  std::vector<float> logprobs;
  std::string content;       // without the thinking and the white space around it
  bool is_finished = false;  // ended by itself, not by the limit
};

class Examinee {
 public:
  virtual ~Examinee() = default;
  // Greedy.
  virtual absl::StatusOr<ExamAnswer> Ask(const Problem& problem, int max_new_tokens) = 0;
  // As many questions keep it busy.
  virtual int num_threads() const = 0;
  virtual std::string Describe() const = 0;
};

absl::StatusOr<std::unique_ptr<Examinee>> MakeLocalExaminee(const LocalClusterOptions& options);
std::unique_ptr<Examinee> MakeRemoteExaminee(OrreryClient client);

}  // namespace orrery

#endif  // ORRERY_TOOLS_EVAL_EXAMINEE_H_
