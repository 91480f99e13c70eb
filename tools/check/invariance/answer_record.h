// What a request was answered, bit for bit, and where two answers differ.
//
//   ASSIGN_OR_RETURN(AnswerRecord answer, RecordAnswer(*outbox, /*num_choices=*/3, timeout));
//   const std::string difference = FirstDifference(answer.choices[0], expected.choices[0]);
#ifndef ORRERY_TOOLS_CHECK_INVARIANCE_ANSWER_RECORD_H_
#define ORRERY_TOOLS_CHECK_INVARIANCE_ANSWER_RECORD_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "services/attention/outbox.h"

namespace orrery {

struct ChoiceRecord {
  std::vector<OutputToken> tokens;
  ChoiceEnd end;
};

struct AnswerRecord {
  std::vector<ChoiceRecord> choices;
  int num_drafted = 0;
  int num_accepted = 0;
};

// Everything until the end. Errors: the request's own; DEADLINE_EXCEEDED (and the request is
// cancelled) when nothing came for `timeout`; INTERNAL when the events make no answer: a choice
// that ended twice, or never. on_first_events, if there is one, is called once something has come.
absl::StatusOr<AnswerRecord> RecordAnswer(Outbox& outbox, int num_choices, absl::Duration timeout,
                                          const std::function<void()>& on_first_events = nullptr);

// The first of ids, log-probabilities, top log-probabilities, cut texts and ends that is not equal,
// compared as bytes; with both values. Empty when nothing differs.
std::string FirstDifference(const ChoiceRecord& actual, const ChoiceRecord& expected);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_INVARIANCE_ANSWER_RECORD_H_
