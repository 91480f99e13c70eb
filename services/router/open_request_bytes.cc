#include "services/router/open_request_bytes.h"

#include <algorithm>

#include "rpc/channel.h"

namespace orrery {
namespace {

constexpr int64_t kId = sizeof(int32_t);
// Two calls of gRPC and two alarms, beside what the server's buffers hold of the client's.
constexpr int64_t kCallBytes = 24 << 10;
constexpr int64_t kChoiceBytes = 4 << 10;
// The resume token: in the call, and in its first message.
constexpr int64_t kTokenCopies = 3;
// A message with a token's text, one of its alternatives, and how many may wait: see GenerateCall.
constexpr int64_t kMessageBytes = 1024;
constexpr int64_t kAlternativeBytes = 512;
constexpr int64_t kMessages = 18;
// A token's event as it comes from the rank, an alternative, and as slices of what was read from the socket.
constexpr int64_t kEventBytes = 48;
constexpr int64_t kEventAlternativeBytes = 12;
constexpr int64_t kSliceFactor = 2;

}  // namespace

int64_t OpenRequestBytes(const internal::SequenceRequest& sequence, size_t token_bytes) {
  const int64_t num_alternatives = sequence.num_top_logprobs();
  const int64_t num_answer =
      int64_t{sequence.num_choices()} * std::max(sequence.max_new_tokens(), 0);
  const int64_t unread = std::min<int64_t>(
      num_answer * (kEventBytes + num_alternatives * kEventAlternativeBytes), kFixedWindowBytes);
  return kCallBytes + sequence.num_choices() * kChoiceBytes +
         kTokenCopies * static_cast<int64_t>(token_bytes) + 3 * kId * sequence.prompt_ids_size() +
         // The id while its vector grows, as a message and on the way.
         (3 + 2) * kId * num_answer +
         kMessages * (kMessageBytes + num_alternatives * kAlternativeBytes) + kSliceFactor * unread;
}

int64_t LongestOpenRequestBytes(int max_context_tokens) {
  // An answer's token takes more than a prompt's.
  internal::SequenceRequest sequence;
  sequence.set_num_choices(1);
  sequence.set_max_new_tokens(max_context_tokens);
  return OpenRequestBytes(sequence, kUsualTokenBytes);
}

}  // namespace orrery
