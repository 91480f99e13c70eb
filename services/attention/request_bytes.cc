#include "services/attention/request_bytes.h"

#include "services/attention/outbox.h"

namespace orrery {
namespace {

constexpr int64_t kGrowing = 3;  // of a vector, while it moves to a larger place
// What there is of a call beside the server's buffers: stream, context, message; and a sequence with its
// sampler. Stop strings come with 4 bytes a byte for their search (answer_stream.h), 16 of 256 bytes at most.
constexpr int64_t kCallBytes = 16 << 10;
constexpr int64_t kChoiceBytes = 24 << 10;
// A hash table's entry of 4 or 8 bytes: with its control byte, in a table that is at least 7/16 full, and while it
// grows there is half of one beside it.
constexpr int64_t kHashedIdBytes = 18;
constexpr int64_t kHashedCountBytes = 32;
// An alternative in the list of a token's.
constexpr int64_t kListBytes = 32;
// logit_bias: as a map of the message, and as a vector.
constexpr int64_t kBiasBytes = 96;

// An event in a deque, whose pieces hold a few.
constexpr int64_t kEventBytes = sizeof(OutputEvent) * 9 / 8;

bool HasPenalties(const SamplingParams& sampling) {
  return sampling.repetition_penalty != 1.0f || sampling.presence_penalty != 0.0f ||
         sampling.frequency_penalty != 0.0f;
}

}  // namespace

int64_t RequestBytes(const GenerationRequest& asked) {
  constexpr int64_t kId = sizeof(int32_t);
  const SamplingParams& sampling = asked.sampling;
  const auto num_prompt = static_cast<int64_t>(asked.prompt_ids.size());
  // As a message (which grows by doubling), and as it was asked.
  int64_t per_prompt_token = 2 * kId + kId;
  if (sampling.repetition_penalty != 1.0f) per_prompt_token += kHashedIdBytes;
  int64_t per_answer_token = 2 * kGrowing * kId + kEventBytes;
  if (HasPenalties(sampling)) per_answer_token += kHashedCountBytes;
  if (asked.num_top_logprobs > 0) {
    per_answer_token += kListBytes + asked.num_top_logprobs * sizeof(IdAndLogprob);
  }
  // What is told of the answer so far, if this is a replay or becomes one: what was taken once must fit again.
  per_answer_token += 2 * kId + kId;
  const int64_t per_choice = kChoiceBytes + kGrowing * kId * num_prompt +
                             per_answer_token * asked.stop.max_new_tokens +
                             kBiasBytes * static_cast<int64_t>(sampling.logit_bias.size());
  return kCallBytes + per_prompt_token * num_prompt + asked.num_choices * per_choice;
}

int64_t LongestRequestBytes(int max_context_tokens) {
  // An answer's token takes more than a prompt's.
  GenerationRequest request;
  request.stop.max_new_tokens = max_context_tokens;
  return RequestBytes(request);
}

}  // namespace orrery
