#include "services/router/router_memory.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "rpc/channel.h"
#include "rpc/server.h"
#include "services/router/open_request_bytes.h"

namespace orrery {
namespace {

// A prompt as long as the context, with room for long tokens (English has some 4.5 bytes for each, Chinese and
// Cyrillic up to 6), beside what else a request may say.
constexpr int64_t kMessageBytes = 512 << 10;
constexpr int64_t kMessageBytesPerToken = 16;
// Of a message's bytes, while it is tokenized: itself and its texts, put together by the template; pieces of one byte
// each, as views, in two vectors that grow by doubling; the ids, and their vector's growth.
constexpr size_t kTokenizingFactor = 112;
// Four of the longest messages, or thousands of short ones.
constexpr size_t kLeastWaitingBytes = size_t{8} << 20;
constexpr size_t kArrivingBytes = size_t{16} << 20;
constexpr size_t kReplyBytes = size_t{16} << 20;
// What is known of a member, and its connections.
constexpr size_t kMemberBytes = size_t{1} << 20;

}  // namespace

RouterMemory PlanRouterMemory(const RouterMemoryParts& parts, const MemoryBudget& budget) {
  // New ones and resumed ones.
  const int64_t num_places = 2 * int64_t{parts.max_open_requests};
  RouterMemory memory;
  memory.max_message_bytes = static_cast<int>(std::min<int64_t>(
      kMaxMessageBytes, kMessageBytes + kMessageBytesPerToken * parts.max_context_tokens));
  const size_t message_bytes = memory.max_message_bytes;
  memory.max_waiting_bytes = std::max(kLeastWaitingBytes, 4 * message_bytes);
  memory.max_buffer_bytes = memory.max_waiting_bytes + kArrivingBytes + 4 * message_bytes +
                            2 * num_places * kCallBufferBytes;
  memory.max_reply_bytes = kReplyBytes;

  memory.need.Add({.name = "tokenizer", .bytes = parts.parsed_bytes});
  memory.need.Add({.name = "tokenizing",
                   .bytes = parts.num_workers * kTokenizingFactor * message_bytes,
                   .detail = absl::StrCat("messages of at most ", MemoryText(message_bytes)),
                   .smaller_by = "limits.max_context_tokens"});
  memory.need.Add(
      {.name = "connections",
       .bytes = memory.max_buffer_bytes + memory.max_reply_bytes + parts.num_members * kMemberBytes,
       .smaller_by = "limits.max_waiting_requests"});

  const size_t churning = memory.max_buffer_bytes + memory.max_reply_bytes;
  const int64_t longest = LongestOpenRequestBytes(parts.max_context_tokens);
  memory.max_request_bytes = AddRequestsAndProcess(
      budget, {.longest_bytes = longest, .num_places = num_places}, churning, memory.need);
  return memory;
}

}  // namespace orrery
