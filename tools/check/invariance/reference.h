// The answers of the plain setting, and the comparison of any other with them.
//
//   for (const Setting& plain : Reference::PlainSettings(settings)) {
//     RETURN_IF_ERROR(reference.Add(plain, /*answers of a run of*/ plain));
//   }
//   std::vector<std::string> differences = reference.Compare(setting, answers);
//
// Greedy: every choice is the answer of n = 1. Seeded: choice 0 is the answer of n = 1, the others
// are those of n = 3.
#ifndef ORRERY_TOOLS_CHECK_INVARIANCE_REFERENCE_H_
#define ORRERY_TOOLS_CHECK_INVARIANCE_REFERENCE_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "tools/check/invariance/answer_record.h"
#include "tools/check/invariance/setting.h"

namespace orrery {

class Reference {
 public:
  using Answers = std::vector<absl::StatusOr<AnswerRecord>>;

  // The plain settings whose answers the comparison needs, in the order in which they must be
  // added: a later one is compared with those before it, too.
  static std::vector<Setting> PlainSettings(const std::vector<Setting>& settings);

  // The first request without an answer ends the check.
  absl::Status Add(const Setting& plain, const Answers& answers);
  // One line per request that differs or failed: "request 5, choice 1, token 7: id ...".
  std::vector<std::string> Compare(const Setting& setting, const Answers& answers) const;

 private:
  const ChoiceRecord* Find(int request, bool seeded, int choice) const;

  // By request.
  std::vector<AnswerRecord> greedy_;
  std::vector<AnswerRecord> seeded_;
  std::vector<AnswerRecord> seeded_choices_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_INVARIANCE_REFERENCE_H_
