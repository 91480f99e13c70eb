// What a chaos run asks, and the oracle: what the undisturbed cluster answers.
//
//   ASSIGN_OR_RETURN(std::vector<Question> questions,
//                    AskUndisturbed(client, MakeRequests(/*seed=*/7, 24), absl::Minutes(1)));
//   ... faults ...
//   std::string difference = Difference(questions[3].answer, answer);  // empty if all is well
//
// Generation is deterministic, so the same request has the same answer whatever happens on the way:
// one byte that differs is a broken promise.
#ifndef ORRERY_TOOLS_CHAOS_QUESTIONS_H_
#define ORRERY_TOOLS_CHAOS_QUESTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "client/orrery_client.h"

namespace orrery {

struct Question {
  v1::GenerateRequest request;
  Answer answer;
};

// A mix of everything that an answer may depend on: greedy and drawn, penalties, two choices,
// alternatives, stop strings, short prompts and long ones. All with seed and log-probabilities.
std::vector<v1::GenerateRequest> MakeRequests(uint64_t seed, int num);

// One after the other, each within `timeout`.
absl::StatusOr<std::vector<Question>> AskUndisturbed(
    OrreryClient& client, const std::vector<v1::GenerateRequest>& requests, absl::Duration timeout);

// Each question k, counted from 1, in all num / k times (at least once), well mixed.
std::vector<Question> RepeatedByZipf(std::vector<Question> questions);

// The first difference in ids, log-probabilities, alternatives, texts or ends, for people; empty if there
// is none. What may differ is not looked at: cached prompt tokens, drafts.
std::string Difference(const Answer& expected, const Answer& got);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_QUESTIONS_H_
