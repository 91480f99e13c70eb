// Each rule by itself. tests/simulation has the worst cases over thousands of steps.
#include "services/attention/scheduler.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {

void PrintTo(const StepSlice& slice, std::ostream* out) {
  *out << slice.num_rows << " rows of " << slice.id;
}

namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr SchedulerOptions kOptions;  // 256 rows, 64 for prompts, 64 sequences, blocks of 64
constexpr int kManyBlocks = 1000;

// A sequence that runs, with the blocks of what it has computed, all its own.
SequenceView Running(SequenceId id, int num_tokens, int num_computed, int tenant = 0) {
  const int num_blocks = (num_computed + kOptions.block_tokens - 1) / kOptions.block_tokens;
  return {.id = id,
          .tenant = tenant,
          .running = true,
          .num_tokens = num_tokens,
          .num_computed = num_computed,
          .num_blocks = num_blocks,
          .num_own_blocks = num_blocks};
}
SequenceView Answering(SequenceId id, int num_tokens, int tenant = 0) {
  return Running(id, num_tokens, num_tokens - 1, tenant);
}
SequenceView Waiting(SequenceId id, int num_tokens, int tenant = 0) {
  return {.id = id, .tenant = tenant, .num_tokens = num_tokens};
}
SequenceView WithPriority(int priority, SequenceView view) {
  view.priority = priority;
  return view;
}
Snapshot Of(std::vector<SequenceView> sequences, int num_free_blocks = kManyBlocks,
            std::vector<TenantView> tenants = {{}}) {
  return {std::move(sequences), std::move(tenants), num_free_blocks};
}
using Slices = std::vector<StepSlice>;

TEST(Scheduler, PlansNothingForNobody) {
  const StepPlan plan = PlanStep(Of({}), kOptions);
  EXPECT_THAT(plan.slices, IsEmpty());
  EXPECT_THAT(plan.credits, ElementsAre(0));
  EXPECT_THAT(PlanStep({}, kOptions).credits, IsEmpty());
}

TEST(Scheduler, GivesEveryAnswerItsRowAndOnePerDraft) {
  SequenceView drafted = Answering(2, 200);
  drafted.num_drafts = 3;
  const StepPlan plan = PlanStep(Of({Answering(1, 10), drafted, Answering(3, 70)}), kOptions);
  EXPECT_EQ(plan.slices, (Slices{{1, 1}, {2, 4}, {3, 1}}));
}

TEST(Scheduler, GivesAPromptAloneTheWholeBudgetAndBesideAnswersItsPart) {
  EXPECT_EQ(PlanStep(Of({Waiting(1, 1000)}), kOptions).slices, (Slices{{1, 256}}));
  const StepPlan plan = PlanStep(Of({Answering(1, 10), Running(2, 1000, 256)}), kOptions);
  EXPECT_EQ(plan.slices, (Slices{{1, 1}, {2, 64}}));
}

TEST(Scheduler, GivesPromptsNoMoreThanAnswersLeaveOfTheBudget) {
  const SchedulerOptions options{.max_step_rows = 10, .max_prefill_rows = 64, .max_running = 8};
  SequenceView drafted = Answering(1, 10);
  drafted.num_drafts = 3;
  const StepPlan plan = PlanStep(Of({drafted, Answering(2, 10), Waiting(3, 100)}), options);
  EXPECT_EQ(plan.slices, (Slices{{1, 4}, {2, 1}, {3, 5}}));
}

TEST(Scheduler, GoesOnWithTheNextPromptInTheSameStep) {
  const StepPlan plan = PlanStep(Of({Waiting(1, 20), Waiting(2, 30), Waiting(3, 500)}), kOptions);
  EXPECT_EQ(plan.slices, (Slices{{1, 20}, {2, 30}, {3, 206}}));
  EXPECT_THAT(plan.admitted, ElementsAre(1, 2, 3));
}

TEST(Scheduler, AdmitsNobodyBeforeItsTurnForRows) {
  const StepPlan plan = PlanStep(Of({Waiting(1, 300), Waiting(2, 10)}), kOptions);
  EXPECT_EQ(plan.slices, (Slices{{1, 256}}));
  EXPECT_THAT(plan.admitted, ElementsAre(1));
}

TEST(Scheduler, ComputesOnlyWhatThePrefixCacheDoesNotGive) {
  SequenceView partly = Waiting(1, 200);
  partly.num_computed = 192;
  SequenceView all = Waiting(2, 128);  // its last row is computed again, for the next token
  all.num_computed = 128;
  EXPECT_EQ(PlanStep(Of({partly, all}), kOptions).slices, (Slices{{1, 8}, {2, 1}}));
}

TEST(Scheduler, RunsNoMoreSequencesThanAllowed) {
  SchedulerOptions options;
  options.max_running = 2;
  const StepPlan plan = PlanStep(Of({Answering(1, 10), Waiting(2, 10), Waiting(3, 10)}), options);
  EXPECT_THAT(plan.admitted, ElementsAre(2));
}

TEST(Scheduler, PrefersPriorityThenAgeWithinATenant) {
  SchedulerOptions options;
  options.max_step_rows = options.max_running = 16;
  const auto first = [&](std::vector<SequenceView> sequences) {
    return PlanStep(Of(std::move(sequences)), options).slices.at(0).id;
  };
  EXPECT_EQ(first({Waiting(1, 50), Waiting(2, 50)}), 1u);
  EXPECT_EQ(first({Waiting(1, 50), WithPriority(1, Waiting(2, 50))}), 2u);
  EXPECT_EQ(first({Running(1, 50, 10), WithPriority(1, Waiting(2, 50))}), 2u);
  EXPECT_EQ(first({Waiting(1, 50), Running(2, 50, 10)}), 1u);  // it was preempted, say
}

// --- Tenants ---

TEST(Scheduler, SplitsRowsByCreditInQuanta) {
  SchedulerOptions options;
  options.max_step_rows = options.max_running = 64;
  const std::vector<SequenceView> sequences = {Waiting(1, 500, 0), Waiting(2, 500, 1)};
  EXPECT_EQ(PlanStep(Of(sequences, kManyBlocks, {{0}, {0}}), options).slices,
            (Slices{{1, 32}, {2, 32}}));
  EXPECT_EQ(PlanStep(Of(sequences, kManyBlocks, {{-16}, {16}}), options).slices,
            (Slices{{1, 16}, {2, 48}}));
  EXPECT_EQ(PlanStep(Of(sequences, kManyBlocks, {{-200}, {200}}), options).slices,
            (Slices{{2, 64}}));
}

TEST(Scheduler, GivesWhatATenantCannotUseToTheOthers) {
  const StepPlan plan =
      PlanStep(Of({Waiting(1, 500, 0), Waiting(2, 10, 1)}, kManyBlocks, {{-900}, {900}}), kOptions);
  EXPECT_EQ(plan.slices, (Slices{{1, 246}, {2, 10}}));
}

TEST(Scheduler, IgnoresPriorityBetweenTenants) {
  SchedulerOptions options;
  options.max_step_rows = options.max_running = 16;
  const StepPlan plan = PlanStep(
      Of({WithPriority(9, Waiting(1, 50, 0)), Waiting(2, 50, 1)}, kManyBlocks, {{-1}, {1}}),
      options);
  EXPECT_THAT(plan.admitted, ElementsAre(2));
}

TEST(Scheduler, CountsCreditFromTheAverageOfThoseWithWork) {
  // 1 and 3 rows: two each would have been even, and an idle tenant got none.
  const StepPlan plan = PlanStep(
      Of({Answering(1, 10, 0), Answering(2, 10, 1), Answering(3, 10, 1), Answering(4, 10, 1)},
         kManyBlocks, {{0}, {0}, {5}}),
      kOptions);
  EXPECT_THAT(plan.credits, ElementsAre(1, -1, 7));
}

TEST(Scheduler, LetsATenantAloneOweNothing) {
  EXPECT_THAT(PlanStep(Of({Waiting(1, 500)}, kManyBlocks, {{-300}}), kOptions).credits,
              ElementsAre(0));
}

TEST(Scheduler, CreditsAnIdleTenantWithWhatOthersGet) {
  // Tenant 0 gets 200 rows, and stands at 0 again.
  const StepPlan plan =
      PlanStep(Of({Waiting(1, 200, 0)}, kManyBlocks, {{0}, {-300}, {-100}, {7}}), kOptions);
  EXPECT_THAT(plan.credits, ElementsAre(0, -100, 100, 207));
}

TEST(Scheduler, GivesThePromptOfATenantABudgetAheadTheWholeStep) {
  const auto slices = [](int64_t credit, int num_prompt_rows) {
    return PlanStep(Of({Answering(1, 10, 0), Answering(2, 10, 0), Running(3, 900, 10, 0),
                        Waiting(4, num_prompt_rows, 1)},
                       kManyBlocks, {{-credit}, {credit}}),
                    kOptions)
        .slices;
  };
  EXPECT_EQ(slices(128, 1000), (Slices{{4, 256}}));
  EXPECT_EQ(slices(127, 1000), (Slices{{1, 1}, {2, 1}, {4, 64}}));
  // What it leaves goes to those that yield, as if it had not been there.
  EXPECT_EQ(slices(128, 255), (Slices{{1, 1}, {4, 255}}));
  EXPECT_EQ(slices(128, 40), (Slices{{1, 1}, {2, 1}, {3, 24}, {4, 40}}));
}

TEST(Scheduler, YieldsToPromptsOnly) {
  const StepPlan plan = PlanStep(
      Of({Answering(1, 10, 0), Answering(2, 10, 1)}, kManyBlocks, {{-500}, {500}}), kOptions);
  EXPECT_EQ(plan.slices, (Slices{{1, 1}, {2, 1}}));
}

TEST(Scheduler, LetsAnswersGoOnWhileTheOneTheyYieldToHasNoRoom) {
  const StepPlan plan = PlanStep(
      Of({Answering(1, 10, 0), Answering(2, 10, 1), Waiting(3, 5000, 1)}, 8, {{-500}, {500}}),
      kOptions);
  EXPECT_EQ(plan.slices, (Slices{{1, 1}, {2, 1}}));
}

TEST(Scheduler, NeverCutsTheDraftsOfAnAnswerThatDoesNotFitBehindAPrompt) {
  SequenceView drafted = Answering(1, 10, 0);
  drafted.num_drafts = 2;
  const StepPlan plan =
      PlanStep(Of({drafted, Waiting(2, 254, 1)}, kManyBlocks, {{-500}, {500}}), kOptions);
  EXPECT_EQ(plan.slices, (Slices{{2, 254}}));
}

TEST(Scheduler, LimitsCreditEitherWay) {
  const int64_t limit = int64_t{kMaxCreditSteps} * kOptions.max_step_rows;
  const StepPlan plan =
      PlanStep(Of({Answering(1, 10, 0), Running(2, 900, 10, 1)}, kManyBlocks, {{limit}, {-limit}}),
               kOptions);
  EXPECT_EQ(plan.slices, (Slices{{1, 1}, {2, 64}}));
  EXPECT_THAT(plan.credits, ElementsAre(limit, -limit));
}

// --- Blocks ---

TEST(Scheduler, AdmitsWithOneBlockToSpareForEveryRunningSequence) {
  const std::vector<SequenceView> sequences = {Answering(1, 10), Waiting(2, 100)};
  EXPECT_THAT(PlanStep(Of(sequences, 3), kOptions).admitted, IsEmpty());  // 2, and 1 + 1
  EXPECT_THAT(PlanStep(Of(sequences, 4), kOptions).admitted, ElementsAre(2));
}

TEST(Scheduler, KeepsBlocksForPromptsThatAreNotComputedYet) {
  // The running prompt has 1 block and needs 9 more; 3 for the waiting one, 2 to spare.
  const std::vector<SequenceView> sequences = {Running(1, 640, 64), Waiting(2, 192)};
  EXPECT_THAT(PlanStep(Of(sequences, 13), {.max_step_rows = 1024}).admitted, IsEmpty());
  EXPECT_THAT(PlanStep(Of(sequences, 14), {.max_step_rows = 1024}).admitted, ElementsAre(2));
}

TEST(Scheduler, CountsNoBlocksThatAWaitingSequenceSharesWithRunningOnes) {
  SequenceView sharing = Waiting(2, 640);
  sharing.num_computed = 512;
  EXPECT_THAT(PlanStep(Of({Answering(1, 600), sharing}, 4), kOptions).admitted, IsEmpty());
  sharing.num_blocks = 8;
  EXPECT_THAT(PlanStep(Of({Answering(1, 600), sharing}, 4), kOptions).admitted, ElementsAre(2));
}

TEST(Scheduler, KeepsRoomForLookahead) {
  SchedulerOptions options;
  options.lookahead_tokens = 1;
  const std::vector<SequenceView> sequences = {Answering(1, 10), Waiting(2, 64)};
  EXPECT_THAT(PlanStep(Of(sequences, 3), kOptions).admitted, ElementsAre(2));
  EXPECT_THAT(PlanStep(Of(sequences, 3), options).admitted, IsEmpty());
  EXPECT_THAT(PlanStep(Of(sequences, 4), options).admitted, ElementsAre(2));
}

TEST(Scheduler, AlwaysAdmitsTheFirstWhenNobodyRuns) {
  const StepPlan plan = PlanStep(Of({Waiting(1, 640), Waiting(2, 10)}, 10), kOptions);
  EXPECT_THAT(plan.admitted, ElementsAre(1));
}

TEST(Scheduler, LetsNoSmallSequenceOvertakeALargeOneThatLacksBlocks) {
  const StepPlan plan = PlanStep(
      Of({Answering(1, 10), Waiting(2, 640, 0), Waiting(3, 10, 1)}, 8, {{9}, {0}}), kOptions);
  EXPECT_THAT(plan.admitted, IsEmpty());
  EXPECT_THAT(plan.preempted, IsEmpty());
}

TEST(Scheduler, PreemptsTheLowestPriorityThenTheNewestForBlocks) {
  // 64 tokens stand in one block; the next row needs another one.
  const auto preempted = [](std::vector<SequenceView> sequences, int num_free_blocks) {
    return PlanStep(Of(std::move(sequences), num_free_blocks), kOptions).preempted;
  };
  const SequenceView a = Answering(1, 65), b = Answering(2, 65), c = Answering(3, 65);
  EXPECT_THAT(preempted({a, b, c}, 3), IsEmpty());
  EXPECT_THAT(preempted({a, b, c}, 2), ElementsAre(3));
  EXPECT_THAT(preempted({a, b, c}, 0), ElementsAre(3, 2));
  EXPECT_THAT(preempted({a, b, WithPriority(1, c)}, 2), ElementsAre(2));
  EXPECT_THAT(preempted({WithPriority(-1, a), b, c}, 2), ElementsAre(1));
}

TEST(Scheduler, PreemptsTheTenantWithMostRunningSequences) {
  const StepPlan plan =
      PlanStep(Of({Answering(1, 65, 0), Answering(2, 65, 0), WithPriority(-1, Answering(3, 65, 1))},
                  2, {{}, {}}),
               kOptions);
  EXPECT_THAT(plan.preempted, ElementsAre(2));
}

TEST(Scheduler, GivesThePreemptedNoRowsAndAdmitsNobodyInThatStep) {
  const StepPlan plan =
      PlanStep(Of({Answering(1, 65), Answering(2, 65), Waiting(3, 5)}, 1), kOptions);
  EXPECT_THAT(plan.preempted, ElementsAre(2));
  EXPECT_THAT(plan.admitted, IsEmpty());
  EXPECT_EQ(plan.slices, (Slices{{1, 1}}));
}

TEST(Scheduler, NeverPreemptsTheLastOneEvenIfOthersFreeOnlySharedBlocks) {
  SequenceView a = Answering(1, 65), b = Answering(2, 65);
  a.num_own_blocks = b.num_own_blocks = 0;
  const StepPlan plan = PlanStep(Of({a, b}, 0), kOptions);
  EXPECT_THAT(plan.preempted, ElementsAre(2));
  EXPECT_EQ(plan.slices, (Slices{{1, 1}}));
}

// --- Displacement ---

constexpr SchedulerOptions kThreePlaces{.max_running = 3};

TEST(Scheduler, DisplacesTheLastOfATenantWithTwoMoreRunning) {
  const StepPlan plan = PlanStep(Of({Answering(1, 10, 0), WithPriority(-1, Answering(2, 10, 0)),
                                     Answering(3, 10, 0), Waiting(4, 10, 1), Waiting(5, 10, 1)},
                                    kManyBlocks, {{}, {}}),
                                 kThreePlaces);
  EXPECT_THAT(plan.preempted, ElementsAre(2));
  EXPECT_THAT(plan.admitted, ElementsAre(4));  // one per step, and 2 against 1 is even
  EXPECT_EQ(plan.slices, (Slices{{1, 1}, {3, 1}, {4, 10}}));
  EXPECT_THAT(plan.credits, ElementsAre(4, -4));
}

TEST(Scheduler, DisplacesNobodyBack) {
  const StepPlan plan = PlanStep(
      Of({Answering(1, 10, 0), Waiting(2, 10, 0), Answering(3, 10, 1), Answering(4, 10, 1)},
         kManyBlocks, {{900}, {-900}}),
      kThreePlaces);
  EXPECT_THAT(plan.preempted, IsEmpty());
}

TEST(Scheduler, DisplacesOnlyIfCreditSaysSo) {
  const auto preempted = [](int64_t credit, std::vector<SequenceView> sequences) {
    return PlanStep(Of(std::move(sequences), kManyBlocks, {{-credit}, {credit}}),
                    {.max_step_rows = 100, .max_running = 4})
        .preempted;
  };
  // A tenant without any running sequence: unless it is in debt.
  const std::vector<SequenceView> none = {Answering(1, 10, 0), Answering(2, 10, 0),
                                          Answering(3, 10, 0), Answering(4, 10, 0),
                                          Waiting(5, 10, 1)};
  EXPECT_THAT(preempted(0, none), ElementsAre(4));
  EXPECT_THAT(preempted(-50, none), IsEmpty());
  // One with some: when it lags by a budget. Between two floods places would change hands all the
  // time.
  const std::vector<SequenceView> some = {Answering(1, 10, 0), Answering(2, 10, 0),
                                          Answering(3, 10, 0), Answering(4, 10, 1),
                                          Waiting(5, 10, 1)};
  EXPECT_THAT(preempted(50, some), IsEmpty());  // its answer has a row of them
  EXPECT_THAT(preempted(51, some), ElementsAre(3));
}

TEST(Scheduler, DisplacesLowerPriorityOfTheSameTenantOnly) {
  const auto preempted = [](int priority) {
    return PlanStep(Of({Answering(1, 10), Answering(2, 10), Answering(3, 10),
                        WithPriority(priority, Waiting(4, 10))}),
                    kThreePlaces)
        .preempted;
  };
  EXPECT_THAT(preempted(0), IsEmpty());
  EXPECT_THAT(preempted(1), ElementsAre(3));
}

TEST(Scheduler, DisplacesAsManyAsTheBlocksTakeOrNone) {
  // Four of 2 blocks each. The spare block of each comes free with it.
  const std::vector<SequenceView> flood = {Answering(1, 128, 0), Answering(2, 128, 0),
                                           Answering(3, 128, 0), Answering(4, 128, 0)};
  const auto plan = [&](int num_tokens) {
    std::vector<SequenceView> sequences = flood;
    sequences.push_back(Waiting(5, num_tokens, 1));
    return PlanStep(Of(sequences, 4, {{}, {}}), kOptions);
  };
  EXPECT_THAT(plan(4 * 64).preempted, ElementsAre(4, 3));
  EXPECT_THAT(plan(4 * 64).admitted, ElementsAre(5));
  // Larger than what the others would be left with.
  EXPECT_THAT(plan(5 * 64).preempted, IsEmpty());
  EXPECT_THAT(plan(5 * 64).admitted, IsEmpty());
}

TEST(Scheduler, CountsTheBlocksThatTheTenantHasAlready) {
  const auto preempted = [](int num_free_blocks) {
    return PlanStep(Of({Answering(1, 128, 0), Answering(2, 128, 0), Answering(3, 128, 0),
                        Answering(4, 128, 0), Answering(5, 192, 1), Waiting(6, 128, 1)},
                       num_free_blocks, {{-200}, {200}}),
                    kOptions)
        .preempted;
  };
  EXPECT_THAT(preempted(8), IsEmpty());       // it fits
  EXPECT_THAT(preempted(5), ElementsAre(4));  // 6 blocks of theirs against 5
  EXPECT_THAT(preempted(4), IsEmpty());       // that would take two, and leave them with 4
}

TEST(Scheduler, DisplacesNobodyWhoseBlocksItHasCountedAsShared) {
  SequenceView sharing = Waiting(4, 130, 1);
  sharing.num_computed = 128;
  const auto plan = [&] {
    return PlanStep(Of({Answering(1, 130, 0), Answering(2, 10, 0), Answering(3, 10, 0), sharing,
                        Waiting(5, 10, 2)},
                       kManyBlocks, {{-150}, {100}, {50}}),
                    {.max_running = 4});
  };
  EXPECT_THAT(plan().admitted, ElementsAre(4, 5));
  EXPECT_THAT(plan().preempted, ElementsAre(3));
  sharing.num_blocks = 2;
  EXPECT_THAT(plan().admitted, ElementsAre(4));  // 5 in the next step
  EXPECT_THAT(plan().preempted, IsEmpty());
}

TEST(Scheduler, NeverDisplacesWhomItAdmitsInTheSameStep) {
  // The place that is left goes to 3, by credit. From then on 4 has no less.
  const StepPlan plan =
      PlanStep(Of({Answering(1, 10, 0), Answering(2, 10, 0), Waiting(3, 10, 0), Waiting(4, 10, 1)},
                  kManyBlocks, {{12}, {0}}),
               kThreePlaces);
  EXPECT_THAT(plan.admitted, ElementsAre(3));
  EXPECT_THAT(plan.preempted, IsEmpty());
}

}  // namespace
}  // namespace orrery
