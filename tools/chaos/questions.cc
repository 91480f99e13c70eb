#include "tools/chaos/questions.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/bench/draws.h"

namespace orrery {
namespace {

// What one choice is compared by, in reading order.
std::string DifferenceOfChoice(const Choice& expected, const Choice& got) {
  for (size_t i = 0; i < expected.ids.size() && i < got.ids.size(); ++i) {
    if (expected.ids[i] != got.ids[i]) {
      return absl::StrCat("token ", i, " is ", got.ids[i], ", not ", expected.ids[i]);
    }
    if (std::memcmp(&expected.logprobs[i], &got.logprobs[i], sizeof(float)) != 0) {
      return absl::StrCat("the log-probability of token ", i, " is ", got.logprobs[i], ", not ",
                          expected.logprobs[i]);
    }
  }
  if (expected.ids.size() != got.ids.size()) {
    return absl::StrCat(got.ids.size(), " tokens, not ", expected.ids.size());
  }
  if (expected.top.size() != got.top.size()) return "alternatives are missing";
  for (size_t i = 0; i < expected.top.size(); ++i) {
    const auto& ours = expected.top[i];
    const auto& theirs = got.top[i];
    bool is_same = ours.size() == theirs.size();
    for (size_t k = 0; is_same && k < ours.size(); ++k) {
      is_same = ours[k].id() == theirs[k].id() && ours[k].logprob() == theirs[k].logprob();
    }
    if (!is_same) return absl::StrCat("the alternatives of token ", i, " differ");
  }
  if (expected.reasoning != got.reasoning) return "the reasoning has other text";
  if (expected.content != got.content) return "the content has other text";
  if (expected.finished.reason() != got.finished.reason()) {
    return absl::StrCat("it ended for reason ", got.finished.reason(), ", not ",
                        expected.finished.reason());
  }
  if (expected.finished.stop() != got.finished.stop()) return "another stop string ended it";
  const v1::Usage& ours = expected.finished.usage();
  const v1::Usage& theirs = got.finished.usage();
  if (ours.output_tokens() != theirs.output_tokens() ||
      ours.reasoning_tokens() != theirs.reasoning_tokens()) {
    return "the usage counts other tokens";
  }
  return "";
}

}  // namespace

std::vector<v1::GenerateRequest> MakeRequests(uint64_t seed, int num) {
  std::vector<v1::GenerateRequest> requests(num);
  for (int i = 0; i < num; ++i) {
    v1::GenerateRequest& request = requests[i];
    // Every sixth prompt is long, so that faults also meet prompts under way.
    const int num_words = i % 6 == 5 ? 200 : 4 + 3 * (i % 8);
    const std::string text = RandomText(seed + i, num_words);
    request.set_text(text);
    request.set_seed(seed + i);
    request.set_max_new_tokens(32 + 16 * (i % 5));
    request.set_ignore_eos(i % 4 != 0);
    request.set_logprobs(true);
    if (i % 3 != 0) request.set_temperature(0.8f);
    if (i % 4 == 1) {
      request.set_repetition_penalty(1.1f);
      request.set_frequency_penalty(0.4f);
    }
    if (i % 4 == 2) request.set_num_choices(2);
    if (i % 4 == 3) request.set_num_top_logprobs(3);
    // Two bytes that a text of words and digits may well contain.
    if (i % 5 == 4) request.add_stop(text.substr(0, 2));
  }
  return requests;
}

absl::StatusOr<std::vector<Question>> AskUndisturbed(
    OrreryClient& client, const std::vector<v1::GenerateRequest>& requests,
    absl::Duration timeout) {
  std::vector<Question> questions;
  for (const v1::GenerateRequest& request : requests) {
    ASSIGN_OR_RETURN(Answer answer, client.Generate(request, timeout));
    questions.push_back({request, std::move(answer)});
  }
  return questions;
}

std::vector<Question> RepeatedByZipf(std::vector<Question> questions) {
  std::vector<Question> repeated;
  for (size_t turn = 1; turn <= questions.size(); ++turn) {
    for (size_t k = 1; k <= questions.size(); ++k) {
      if (turn % k == 0) repeated.push_back(questions[k - 1]);
    }
  }
  return repeated;
}

std::string Difference(const Answer& expected, const Answer& got) {
  if (expected.started.seed() != got.started.seed()) return "it has another seed";
  if (expected.started.prompt_tokens() != got.started.prompt_tokens()) {
    return "its prompt has another length";
  }
  if (expected.num_choices() != got.num_choices()) {
    return absl::StrCat(got.num_choices(), " choices, not ", expected.num_choices());
  }
  for (int i = 0; i < expected.num_choices(); ++i) {
    const std::string difference = DifferenceOfChoice(expected.choice(i), got.choice(i));
    if (!difference.empty()) return absl::StrCat("choice ", i, ": ", difference);
  }
  return "";
}

}  // namespace orrery
