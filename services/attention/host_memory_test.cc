#include "services/attention/host_memory.h"

#include <gtest/gtest.h>

#include "services/attention/request_bytes.h"

namespace orrery {
namespace {

constexpr int kContext = 4096;

RankMemory Counted() {
  return {.weights = 200'000'000,
          .kv_cache = 64'000'000,
          .scratch = 10'000'000,
          .kv_tokens = 65536,
          .pinned = 1'000'000,
          .loading = 5'000'000};
}

HostMemoryParts Parts() {
  HostMemoryParts parts;
  parts.vocab_size = 1000;
  parts.engine.scheduler.max_running = 64;
  parts.engine.max_waiting_requests = 256;
  parts.engine.max_context_tokens = kContext;
  parts.engine.num_kv_blocks = 1024;
  parts.exchange_bytes = 20'000'000;
  parts.connection_bytes = 30'000'000;
  parts.parsed_bytes = 100'000;
  return parts;
}

MemoryBudget Budget(size_t bytes) { return {.bytes = bytes, .source = "what the test says"}; }

TEST(HostMemory, GivesRequestsWhatIsLeftAndNeverMoreThanAllPlacesTake) {
  int64_t last = 0;
  for (const size_t budget : {600'000'000u, 800'000'000u, 1'500'000'000u}) {
    const HostMemory memory = PlanHostMemory(Counted(), Parts(), Budget(budget));
    EXPECT_LE(memory.need.total(), budget);
    EXPECT_GT(memory.max_request_bytes, last);
    last = memory.max_request_bytes;
  }
  const HostMemory plenty = PlanHostMemory(Counted(), Parts(), Budget(size_t{1} << 40));
  EXPECT_EQ(plenty.max_request_bytes, 2 * (64 + 256) * LongestRequestBytes(kContext));
  EXPECT_LT(plenty.need.total(), 4'000'000'000u);
}

TEST(HostMemory, ThatHasNoRoomForOneRequestIsTooLittle) {
  const MemoryBudget budget = Budget(300'000'000);
  const HostMemory memory = PlanHostMemory(Counted(), Parts(), budget);
  EXPECT_EQ(memory.max_request_bytes, LongestRequestBytes(kContext));
  const absl::Status status = TakeBudget("attention-0", memory.need, budget);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  const std::string message(status.message());
  for (const char* part :
       {"attention-0 needs ", "weights 200.0 MB", "KV cache 64.0 MB",
        "its budget is 300.0 MB, what the test says", "no KV cache would fit beside the rest"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in " << message;
  }
}

// The model is elsewhere, and its numbers count there.
TEST(HostMemory, OfARankOnAGpuHasNoWeights) {
  HostMemoryParts parts = Parts();
  parts.is_on_gpu = true;
  const HostMemory memory = PlanHostMemory(Counted(), parts, Budget(size_t{8} << 30));
  for (const MemoryPart& part : memory.need.parts()) EXPECT_NE(part.name, "weights");
}

GenerationRequest Request(int num_prompt, int max_new_tokens) {
  GenerationRequest request;
  request.prompt_ids.resize(num_prompt);
  request.stop.max_new_tokens = max_new_tokens;
  return request;
}

TEST(RequestBytes, GrowWithAllThatARequestMayHold) {
  const int64_t plain = RequestBytes(Request(1000, 1000));
  EXPECT_GT(plain, 1000 * (3 * 4 + static_cast<int64_t>(sizeof(OutputEvent))));
  EXPECT_LE(plain, LongestRequestBytes(2000));
  GenerationRequest request = Request(1000, 1000);
  request.num_choices = 2;
  EXPECT_GT(RequestBytes(request), plain + 1000 * static_cast<int64_t>(sizeof(OutputEvent)));
  request = Request(1000, 1000);
  request.num_top_logprobs = 20;
  EXPECT_GE(RequestBytes(request), plain + 1000 * 20 * 8);
  request = Request(1000, 1000);
  request.sampling.repetition_penalty = 1.1f;
  EXPECT_GT(RequestBytes(request), plain);
  request = Request(1000, 1000);
  request.so_far.resize(1);
  EXPECT_EQ(RequestBytes(request), plain) << "else what was taken might never be replayed";
}

}  // namespace
}  // namespace orrery
