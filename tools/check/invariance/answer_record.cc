#include "tools/check/invariance/answer_record.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace orrery {
namespace {

uint32_t Bits(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

bool SameBits(const IdAndLogprob& a, const IdAndLogprob& b) {
  return a.id == b.id && Bits(a.logprob) == Bits(b.logprob);
}

bool SameBits(const std::vector<IdAndLogprob>& a, const std::vector<IdAndLogprob>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const IdAndLogprob& x, const IdAndLogprob& y) { return SameBits(x, y); });
}

// "id 12 logprob -0.250000 (0xbe800000)"
std::string Text(const IdAndLogprob& token) {
  return absl::StrFormat("id %d logprob %.6f (0x%08x)", token.id, token.logprob,
                         Bits(token.logprob));
}

std::string Text(const std::vector<IdAndLogprob>& top) {
  std::string text = absl::StrCat(top.size(), " top:");
  for (const IdAndLogprob& token : top) absl::StrAppend(&text, " ", Text(token));
  return text;
}

std::string Text(const ChoiceEnd& end) {
  std::string text = end.end.reason == EndReason::kStop ? "stop" : "length";
  if (!end.end.stop_string.empty()) absl::StrAppend(&text, " by \"", end.end.stop_string, "\"");
  return absl::StrCat(text, " after ", end.num_tokens, " tokens");
}

absl::Status Put(OutputEvent event, std::vector<bool>& has_ended, AnswerRecord& answer) {
  const int choice =
      std::visit([](const auto& output) { return output.choice; }, std::as_const(event));
  if (choice < 0 || choice >= static_cast<int>(answer.choices.size()) || has_ended[choice]) {
    return absl::InternalError(absl::StrCat("an event of choice ", choice, " of ",
                                            answer.choices.size(),
                                            ", which does not exist or has ended"));
  }
  if (auto* token = std::get_if<OutputToken>(&event)) {
    answer.choices[choice].tokens.push_back(std::move(*token));
    return absl::OkStatus();
  }
  ChoiceEnd& end = std::get<ChoiceEnd>(event);
  answer.num_drafted += end.drafted_tokens;
  answer.num_accepted += end.accepted_tokens;
  answer.choices[choice].end = std::move(end);
  has_ended[choice] = true;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<AnswerRecord> RecordAnswer(Outbox& outbox, int num_choices, absl::Duration timeout,
                                          const std::function<void()>& on_first_events) {
  AnswerRecord answer;
  answer.choices.resize(num_choices);
  std::vector<bool> has_ended(num_choices, false);
  bool has_begun = false;
  while (!outbox.status().has_value()) {
    auto events = outbox.Next(absl::Now() + timeout);
    if (events.empty() && !outbox.status().has_value()) {
      outbox.Cancel();
      return absl::DeadlineExceededError(
          absl::StrCat("no token within ", absl::FormatDuration(timeout)));
    }
    if (!events.empty() && !std::exchange(has_begun, true) && on_first_events) on_first_events();
    for (OutputEvent& event : events) {
      RETURN_IF_ERROR(Put(std::move(event), has_ended, answer));
    }
  }
  RETURN_IF_ERROR(*outbox.status());
  const auto open = std::find(has_ended.begin(), has_ended.end(), false);
  if (open != has_ended.end()) {
    return absl::InternalError(
        absl::StrCat("the request is finished, choice ", open - has_ended.begin(), " is not"));
  }
  return answer;
}

std::string FirstDifference(const ChoiceRecord& actual, const ChoiceRecord& expected) {
  const size_t num_both = std::min(actual.tokens.size(), expected.tokens.size());
  for (size_t i = 0; i < num_both; ++i) {
    const OutputToken& a = actual.tokens[i];
    const OutputToken& e = expected.tokens[i];
    if (!SameBits(a.token, e.token)) {
      return absl::StrCat("token ", i, ": ", Text(a.token), ", expected ", Text(e.token));
    }
    if (!SameBits(a.top, e.top)) {
      return absl::StrCat("token ", i, ": ", Text(a.top), ", expected ", Text(e.top));
    }
    if (a.text_bytes != e.text_bytes) {
      return absl::StrCat("token ", i, ": text cut at ", a.text_bytes.value_or(-1), ", expected ",
                          e.text_bytes.value_or(-1), " (-1: whole)");
    }
  }
  if (actual.tokens.size() != expected.tokens.size()) {
    return absl::StrCat(actual.tokens.size(), " tokens, expected ", expected.tokens.size(),
                        "; the first ", num_both, " are equal");
  }
  if (Text(actual.end) != Text(expected.end)) {
    return absl::StrCat("end: ", Text(actual.end), ", expected ", Text(expected.end));
  }
  return "";
}

}  // namespace orrery
