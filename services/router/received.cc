#include "services/router/received.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "services/router/prompt.h"

namespace orrery {

absl::StatusOr<std::vector<internal::ChoiceSoFar>> TakeReceived(
    const ServedModel& model, const v1::Resume& resume, const internal::SequenceRequest& sequence) {
  if (resume.attempt() < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("resume.attempt is ", resume.attempt(), ", it must be at least 1"));
  }
  if (resume.received_size() != sequence.num_choices()) {
    return absl::InvalidArgumentError(absl::StrCat("resume.received has ", resume.received_size(),
                                                   " entries, it must have one for each of the ",
                                                   sequence.num_choices(), " choices"));
  }
  std::vector<internal::ChoiceSoFar> choices;
  for (int k = 0; k < resume.received_size(); ++k) {
    const v1::ReceivedChoice& received = resume.received(k);
    if (received.id_size() > sequence.max_new_tokens()) {
      return absl::InvalidArgumentError(absl::StrCat("resume.received[", k, "] has ",
                                                     received.id_size(), " ids, max_new_tokens is ",
                                                     sequence.max_new_tokens()));
    }
    RETURN_IF_ERROR(
        CheckIds(model, absl::Span<const int32_t>(received.id().data(), received.id_size())));
    internal::ChoiceSoFar& choice = choices.emplace_back();
    *choice.mutable_id() = received.id();
    choice.set_has_ended(received.finished());
  }
  if (std::all_of(choices.begin(), choices.end(),
                  [](const internal::ChoiceSoFar& choice) { return choice.has_ended(); })) {
    return absl::InvalidArgumentError(
        "resume.received: every choice has finished, there is nothing to resume");
  }
  return choices;
}

}  // namespace orrery
