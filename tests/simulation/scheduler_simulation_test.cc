// The worst cases of the scheduler, over thousands of steps. What a test allows is derived beside it.
// (Random cases: storms.h.)
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/simulation/scheduler_world.h"

namespace orrery {
namespace {

using ::testing::IsEmpty;

// Rows by which one of two tenants can run ahead of the other: from one limit of its credit to the
// other one.
int64_t CreditBound(const SchedulerOptions& options) {
  return 2 * int64_t{kMaxCreditSteps} * options.max_step_rows;
}

// So many requests of a tenant are open at any time.
void KeepOpen(SchedulerWorld& world, int num_open, const WorldRequest& request) {
  for (int i = world.num_open(request.tenant); i < num_open; ++i) world.Submit(request);
}

// What one step of the rank yields when nothing but such requests keep it busy.
double RowsPerStep(const WorldRequest& request, const SchedulerWorld::Spec& spec) {
  SchedulerWorld world(spec);
  for (int i = 0; i < 3000; ++i) {
    KeepOpen(world, 50, request);
    world.Step();
  }
  return static_cast<double>(world.num_rows(request.tenant)) / 3000;
}

TEST(SchedulerSimulation, ATenantBelowItsShareGetsAllItWantsAtOnceBesideAFlood) {
  const SchedulerWorld::Spec spec{
      .scheduler = {.max_running = 32}, .num_blocks = 400, .num_tenants = 2};
  const WorldRequest flood{.tenant = 0, .num_prompt_tokens = 200, .num_answer_tokens = 100};
  const WorldRequest modest{.tenant = 1, .num_prompt_tokens = 200, .num_answer_tokens = 100};
  const double share = RowsPerStep(flood, spec) / 2;  // rows per step
  const int rows_each = 300;
  SchedulerWorld world(spec);
  struct Wait {
    SequenceId id;
    int64_t bound;
  };
  std::vector<Wait> waits;
  const int64_t num_steps = 20'000;
  const int64_t parts = 1'000'000;
  const auto arrives = [&](double rows_per_step) {
    return world.Below(parts) < static_cast<int64_t>(rows_per_step / rows_each * parts);
  };
  for (int64_t step = 0; step < num_steps; ++step) {
    // What does not fit its queue of 256 is refused.
    if (arrives(8 * share) && world.num_open(0) < 256) world.Submit(flood);
    if (arrives(0.2 * share)) {
      // All rows of prompts are its own until its prompts are done; one of its sequences may
      // displace another per step; and a step may preempt for blocks instead.
      const int64_t num_rows_ahead = world.num_prompt_rows_left(1) + modest.num_prompt_tokens;
      const int64_t bound =
          (num_rows_ahead + spec.scheduler.max_prefill_rows - 1) / spec.scheduler.max_prefill_rows +
          world.num_open(1) - world.num_running(1) + 2;
      waits.push_back({world.Submit(modest), bound});
    }
    world.Step();
  }
  EXPECT_THAT(world.violations(), IsEmpty());
  for (const Wait& wait : waits) {
    const WorldOutcome& outcome = world.outcome(wait.id);
    if (outcome.first_token < 0) continue;  // at the end
    const int64_t num_waited = outcome.first_token - outcome.submitted;
    EXPECT_LE(num_waited, wait.bound) << "sequence " << wait.id;
    EXPECT_EQ(outcome.num_preemptions, 0) << "sequence " << wait.id;
  }
  const double wanted = static_cast<double>(waits.size()) * rows_each;
  EXPECT_GT(waits.size(), 100u);
  EXPECT_NEAR(world.num_rows(1) / wanted, 1.0, 0.1);
  EXPECT_GT(world.num_rows(0), 1.5 * share * num_steps);  // the flood has the rest
}

// One prompt now and then, beside a tenant that fills every place: it takes as many steps as it
// would alone, one more if the first one preempts for blocks, and pauses the flood no longer than
// that.
TEST(SchedulerSimulation, ThePromptOfAQuietTenantTakesWholeStepsBesideAFlood) {
  const SchedulerWorld::Spec spec{.scheduler = {}, .num_blocks = 2000, .num_tenants = 2};
  SchedulerWorld world(spec);
  std::vector<SequenceId> prompts;
  int64_t longest_pause = 0, pause = 0;
  for (int step = 0; step < 5'000; ++step) {
    KeepOpen(world, 150, {.tenant = 0, .num_prompt_tokens = 500, .num_answer_tokens = 100});
    if (step >= 100 && step % 50 == 0) {
      prompts.push_back(
          world.Submit({.tenant = 1, .num_prompt_tokens = 1'000, .num_answer_tokens = 20}));
    }
    const int64_t before = world.num_rows(0);
    world.Step();
    pause = world.num_rows(0) == before ? pause + 1 : 0;
    longest_pause = std::max(longest_pause, pause);
  }
  EXPECT_THAT(world.violations(), IsEmpty());
  for (const SequenceId id : prompts) {
    EXPECT_LE(world.outcome(id).first_token - world.outcome(id).submitted, 1'000 / 256 + 1);
  }
  EXPECT_LE(longest_pause, 1'000 / 256);
}

// Whatever the others do, a tenant's answers pause no longer than credit reaches.
TEST(SchedulerSimulation, AnswersPauseNoLongerThanCreditReaches) {
  const SchedulerWorld::Spec spec{.scheduler = {}, .num_blocks = 2000, .num_tenants = 2};
  SchedulerWorld world(spec);
  int64_t longest_pause = 0, pause = 0;
  for (int step = 0; step < 10'000; ++step) {
    KeepOpen(world, 64, {.tenant = 0, .num_prompt_tokens = 10, .num_answer_tokens = 1'000});
    if (step % 1'000 > 500) KeepOpen(world, 50, {.tenant = 1, .num_prompt_tokens = 3'000});
    const int64_t before = world.num_rows(0);
    world.Step();
    pause = world.num_rows(0) == before ? pause + 1 : 0;
    longest_pause = std::max(longest_pause, pause);
  }
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_GT(longest_pause, 1);
  EXPECT_LE(longest_pause, 2 * kMaxCreditSteps);
}

TEST(SchedulerSimulation, FloodsOfDifferentPromptSizesGetEqualRows) {
  const SchedulerWorld::Spec spec{.scheduler = {}, .num_blocks = 4000, .num_tenants = 3};
  SchedulerWorld world(spec);
  const std::vector<WorldRequest> floods = {
      {.tenant = 0, .num_prompt_tokens = 50, .num_answer_tokens = 50},
      {.tenant = 1, .num_prompt_tokens = 700, .num_answer_tokens = 50},
      {.tenant = 2, .num_prompt_tokens = 6000, .num_answer_tokens = 50}};
  std::vector<int64_t> before(3);
  for (int step = 0; step < 10'000; ++step) {
    if (step == 2'000) before = {world.num_rows(0), world.num_rows(1), world.num_rows(2)};
    for (const WorldRequest& flood : floods) KeepOpen(world, 30, flood);
    world.Step();
  }
  EXPECT_THAT(world.violations(), IsEmpty());
  const auto [least, most] =
      std::minmax({world.num_rows(0) - before[0], world.num_rows(1) - before[1],
                   world.num_rows(2) - before[2]});
  EXPECT_LE(most - least, CreditBound(spec.scheduler));
  EXPECT_GT(least, 8'000 * 20);
}

TEST(SchedulerSimulation, OneShortPromptOvertakesThousandsOfLongOnes) {
  const SchedulerWorld::Spec spec{.scheduler = {}, .num_blocks = 2000, .num_tenants = 2};
  SchedulerWorld world(spec);
  for (int i = 0; i < 4000; ++i) {
    world.Submit({.tenant = 0, .num_prompt_tokens = 4000, .num_answer_tokens = 500});
  }
  for (int i = 0; i < 1000; ++i) world.Step();
  const SequenceId id =
      world.Submit({.tenant = 1, .num_prompt_tokens = 100, .num_answer_tokens = 20});
  for (int i = 0; i < 30; ++i) world.Step();
  EXPECT_THAT(world.violations(), IsEmpty());
  // Two chunks; a step more if the first one preempts for blocks.
  EXPECT_LE(world.outcome(id).first_token - world.outcome(id).submitted, 3);
  EXPECT_GE(world.outcome(id).end, 0);
}

TEST(SchedulerSimulation, ALongIdleTenantComesBackWithNoMoreThanTheLimitOfCredit) {
  const SchedulerWorld::Spec spec{.scheduler = {}, .num_blocks = 2000, .num_tenants = 2};
  SchedulerWorld world(spec);
  const WorldRequest flood{.tenant = 0, .num_prompt_tokens = 500, .num_answer_tokens = 30};
  const WorldRequest other{.tenant = 1, .num_prompt_tokens = 500, .num_answer_tokens = 30};
  // At first it is there with a trickle, so that it has all the credit that one can have.
  for (int step = 0; step < 12'000; ++step) {
    KeepOpen(world, 50, flood);
    if (step < 2'000) KeepOpen(world, 1, {.tenant = 1, .num_answer_tokens = 100});
    world.Step();
  }
  EXPECT_GT(world.credit(1), 0);
  const int64_t before_0 = world.num_rows(0), before_1 = world.num_rows(1);
  int64_t largest_lead = 0;
  for (int step = 0; step < 5'000; ++step) {
    KeepOpen(world, 50, flood);
    KeepOpen(world, 50, other);
    world.Step();
    const int64_t lead = (world.num_rows(1) - before_1) - (world.num_rows(0) - before_0);
    largest_lead = std::max(largest_lead, lead);
  }
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_GT(largest_lead, 0);
  EXPECT_LE(largest_lead, CreditBound(spec.scheduler));
}

class FlappingTenant : public testing::TestWithParam<int> {};

TEST_P(FlappingTenant, GainsNothingByBeingIdleNowAndThen) {
  const SchedulerWorld::Spec spec{.scheduler = {}, .num_blocks = 2000, .num_tenants = 2};
  SchedulerWorld world(spec);
  const WorldRequest flood{.tenant = 0, .num_prompt_tokens = 300, .num_answer_tokens = 30};
  const WorldRequest burst{.tenant = 1, .num_prompt_tokens = 100, .num_answer_tokens = 100};
  int num_idle = 0, num_bursts = 0;
  for (int step = 0; step < 10'000; ++step) {
    KeepOpen(world, 50, flood);
    num_idle = world.num_open(1) == 0 ? num_idle + 1 : 0;
    if (num_idle > GetParam()) {
      KeepOpen(world, 60, burst);
      ++num_bursts;
    }
    world.Step();
  }
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_GT(num_bursts, 5);
  EXPECT_LE(world.num_rows(1), world.num_rows(0) + CreditBound(spec.scheduler));
}

INSTANTIATE_TEST_SUITE_P(IdleSteps, FlappingTenant, testing::Values(0, 1, 10, 100, 1000));

// A tenant whose every sequence takes nearly the whole cache, and one with many small ones. Blocks,
// not rows, are what they share here: the giants wait for room, and ruin nobody's work.
TEST(SchedulerSimulation, GiantsAndSmallOnesTakeTurns) {
  SchedulerWorld world({.scheduler = {}, .num_blocks = 100, .num_tenants = 2});
  for (int step = 0; step < 20'000; ++step) {
    KeepOpen(world, 50, {.tenant = 0, .num_prompt_tokens = 64, .num_answer_tokens = 200});
    KeepOpen(world, 50, {.tenant = 1, .num_prompt_tokens = 5'800, .num_answer_tokens = 200});
    world.Step();
  }
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_EQ(world.num_displaced(), 0);
  const int64_t num_rows = world.num_rows(0) + world.num_rows(1);
  EXPECT_GT(num_rows, 20'000 * 20);
  EXPECT_GT(world.num_rows(0), num_rows / 3);
  EXPECT_GT(world.num_rows(1), num_rows / 3);
}

// Who needs many places for few rows each, beside one who needs few for long: places change hands
// as sequences end, not by displacement, which would compute the same rows again and again.
TEST(SchedulerSimulation, FloodsOfDifferentAnswerLengthsDisplaceNearlyNobody) {
  const SchedulerWorld::Spec spec{.scheduler = {}, .num_blocks = 4000, .num_tenants = 2};
  SchedulerWorld world(spec);
  for (int step = 0; step < 5'000; ++step) {
    KeepOpen(world, 50, {.tenant = 0, .num_prompt_tokens = 10, .num_answer_tokens = 1'000});
    KeepOpen(world, 50, {.tenant = 1, .num_prompt_tokens = 10, .num_answer_tokens = 10});
    world.Step();
  }
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_LE(std::abs(world.num_rows(0) - world.num_rows(1)), CreditBound(spec.scheduler));
  EXPECT_LE(world.num_displaced(), 50);  // of some 20,000 requests
}

TEST(SchedulerSimulation, LowPriorityNeverMakesHighPriorityWait) {
  const SchedulerWorld::Spec spec{
      .scheduler = {.max_running = 8}, .num_blocks = 200, .num_tenants = 1};
  SchedulerWorld world(spec);
  const WorldRequest low{.num_prompt_tokens = 300, .num_answer_tokens = 600};
  std::vector<SequenceId> urgent;
  for (int step = 0; step < 10'000; ++step) {
    KeepOpen(world, 100, low);
    if (step % 100 == 99) {
      urgent.push_back(
          world.Submit({.priority = 1, .num_prompt_tokens = 300, .num_answer_tokens = 50}));
    }
    world.Step();
  }
  EXPECT_THAT(world.violations(), IsEmpty());
  for (const SequenceId id : urgent) {
    const WorldOutcome& outcome = world.outcome(id);
    if (outcome.end < 0) continue;
    // 300 rows in chunks of 64; a step more if the first one preempts for blocks.
    EXPECT_LE(outcome.first_token - outcome.submitted, 5);
    EXPECT_EQ(outcome.num_preemptions, 0);
  }
}

TEST(SchedulerSimulation, PriorityDoesNotHelpAgainstAnotherTenant) {
  const SchedulerWorld::Spec spec{
      .scheduler = {.max_running = 16}, .num_blocks = 160, .num_tenants = 2};
  SchedulerWorld world(spec);
  for (int step = 0; step < 20'000; ++step) {
    KeepOpen(world, 50,
             {.tenant = 0, .priority = 9, .num_prompt_tokens = 300, .num_answer_tokens = 300});
    KeepOpen(world, 50,
             {.tenant = 1, .priority = 0, .num_prompt_tokens = 300, .num_answer_tokens = 300});
    world.Step();
  }
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_LE(std::abs(world.num_rows(0) - world.num_rows(1)), CreditBound(spec.scheduler));
}

TEST(SchedulerSimulation, SixtyFourLongSequencesFinishInACacheForEight) {
  const int length = 1024;
  for (const bool keep_prefixes : {false, true}) {
    SchedulerWorld world({.scheduler = {},
                          .num_blocks = 8 * length / 64,
                          .num_tenants = 1,
                          .keep_prefixes = keep_prefixes});
    std::vector<SequenceId> ids;
    int64_t num_steps_alone = 0;
    for (int i = 0; i < 64; ++i) {
      const int num_prompt_tokens = 400 + static_cast<int>(world.Below(200));
      ids.push_back(world.Submit({.num_prompt_tokens = num_prompt_tokens,
                                  .num_answer_tokens = length - num_prompt_tokens}));
      num_steps_alone += length - num_prompt_tokens;
    }
    EXPECT_TRUE(world.RunUntilIdle(num_steps_alone / 6));  // eight at a time, nearly
    EXPECT_THAT(world.violations(), IsEmpty());
    // Measured: 16 preemptions, 17 % more rows than without (12 % with a prefix cache).
    EXPECT_GT(world.num_preempted(), 0);
    EXPECT_LE(world.num_preempted(), 32);
    for (const SequenceId id : ids) EXPECT_LE(world.outcome(id).num_preemptions, 3);
    EXPECT_LE(world.num_rows(0), 64 * length * 5 / 4);
  }
}

}  // namespace
}  // namespace orrery
