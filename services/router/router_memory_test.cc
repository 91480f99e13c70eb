#include "services/router/router_memory.h"

#include <gtest/gtest.h>

#include "services/router/open_request_bytes.h"

namespace orrery {
namespace {

RouterMemory Plan(int max_context_tokens, size_t budget) {
  return PlanRouterMemory({.max_context_tokens = max_context_tokens,
                           .max_open_requests = 320,
                           .num_members = 5,
                           .num_workers = 2,
                           .parsed_bytes = 20'000},
                          {.bytes = budget, .source = "what the test says"});
}

TEST(RouterMemory, GivesRequestsWhatIsLeftAndNeverMoreThanAllPlacesTake) {
  int64_t last = 0;
  for (const size_t budget : {400'000'000u, 600'000'000u, 900'000'000u}) {
    const RouterMemory memory = Plan(4096, budget);
    EXPECT_LE(memory.need.total(), budget);
    EXPECT_GT(memory.max_request_bytes, last);
    last = memory.max_request_bytes;
  }
  EXPECT_EQ(Plan(4096, size_t{1} << 40).max_request_bytes, 640 * LongestOpenRequestBytes(4096));
}

TEST(RouterMemory, OfALongContextHasLongMessages) {
  EXPECT_LT(Plan(4096, 1'000'000'000).max_message_bytes, 1 << 20);
  EXPECT_EQ(Plan(163840, 4'000'000'000).max_message_bytes, (512 << 10) + 16 * 163840);
  EXPECT_EQ(Plan(1 << 24, 4'000'000'000).max_message_bytes, 16 << 20);
}

TEST(RouterMemory, ThatHasNoRoomForOneRequestIsTooLittle) {
  const MemoryBudget budget = {.bytes = 100'000'000, .source = "what the test says"};
  const RouterMemory memory = Plan(4096, budget.bytes);
  const absl::Status status = TakeBudget("router-0", memory.need, budget);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(status.message()).find("its budget is 100.0 MB, what the test says"),
            std::string::npos)
      << status;
}

TEST(OpenRequestBytes, GrowWithAllThatARequestMayHold) {
  internal::SequenceRequest sequence;
  sequence.set_num_choices(1);
  sequence.set_max_new_tokens(10'000);
  const int64_t plain = OpenRequestBytes(sequence, 100);
  EXPECT_LE(plain, LongestOpenRequestBytes(10'000));
  EXPECT_GE(OpenRequestBytes(sequence, 1100), plain + 2000);
  for (int i = 0; i < 1000; ++i) sequence.add_prompt_ids(1);
  const int64_t with_prompt = OpenRequestBytes(sequence, 100);
  EXPECT_GE(with_prompt, plain + 8000);
  sequence.set_num_top_logprobs(20);
  EXPECT_GT(OpenRequestBytes(sequence, 100), with_prompt);
  sequence.set_num_top_logprobs(0);
  sequence.set_num_choices(2);
  EXPECT_GE(OpenRequestBytes(sequence, 100), with_prompt + 8 * 10'000);
}

}  // namespace
}  // namespace orrery
