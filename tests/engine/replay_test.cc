// Answers that begin at one rank and go on at another: cut after every event that a router may have seen last,
// the rest is what it would have been, to the byte.
#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_fixture.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

std::vector<OutputEvent> TakeEvents(Outbox& outbox) {
  std::vector<OutputEvent> events;
  const absl::Time deadline = absl::Now() + kPatience;
  while (!outbox.status().has_value() && absl::Now() < deadline) {
    for (OutputEvent& event : outbox.Next(deadline)) events.push_back(std::move(event));
  }
  EXPECT_EQ(outbox.status(), absl::OkStatus());
  return events;
}

// What a client sees of one choice.
struct Answered {
  std::vector<OutputToken> tokens;
  std::optional<ChoiceEnd> end;

  void Add(const OutputEvent& event) {
    EXPECT_FALSE(end.has_value());
    if (const OutputToken* token = std::get_if<OutputToken>(&event)) {
      ASSERT_LE(token->index, static_cast<int>(tokens.size()));
      if (token->index < static_cast<int>(tokens.size())) {
        EXPECT_EQ(token->token.id, tokens[token->index].token.id);
      } else {
        tokens.push_back(*token);
      }
    } else {
      end = std::get<ChoiceEnd>(event);
    }
  }
  std::vector<int32_t> ids() const {
    std::vector<int32_t> ids;
    for (const OutputToken& token : tokens) ids.push_back(token.token.id);
    return ids;
  }
};

std::vector<Answered> Sorted(const std::vector<OutputEvent>& events, size_t num_events,
                             int num_choices) {
  std::vector<Answered> choices(num_choices);
  for (size_t i = 0; i < num_events; ++i) {
    const OutputToken* token = std::get_if<OutputToken>(&events[i]);
    choices[token != nullptr ? token->choice : std::get<ChoiceEnd>(events[i]).choice].Add(
        events[i]);
  }
  return choices;
}

void ExpectSame(const Answered& got, const Answered& want, const std::string& where) {
  ASSERT_EQ(got.ids(), want.ids()) << where;
  for (size_t i = 0; i < want.tokens.size(); ++i) {
    EXPECT_EQ(got.tokens[i].token, want.tokens[i].token) << where << ", token " << i;
    EXPECT_EQ(got.tokens[i].top, want.tokens[i].top) << where << ", token " << i;
    EXPECT_EQ(got.tokens[i].text_bytes, want.tokens[i].text_bytes) << where << ", token " << i;
  }
  ASSERT_TRUE(got.end.has_value()) << where;
  EXPECT_EQ(got.end->end.reason, want.end->end.reason) << where;
  EXPECT_EQ(got.end->end.stop_string, want.end->end.stop_string) << where;
  EXPECT_EQ(got.end->num_tokens, want.end->num_tokens) << where;
}

GenerationRequest ReplayOf(GenerationRequest request, const std::vector<Answered>& choices) {
  for (const Answered& choice : choices) {
    request.so_far.push_back({.ids = choice.ids(), .has_ended = choice.end.has_value()});
  }
  return request;
}

class ReplayTest : public EngineFixture {
 protected:
  ReplayTest()
      : cluster_(EngineCluster::Make({.num_ranks = 2, .with_mtp = true, .shards = {kAll}})) {
    cluster_->AnswerAll();
  }

  EngineOptions Options(int num_drafts = 0) const {
    EngineOptions options = DefaultOptions();
    options.num_draft_tokens = num_drafts;
    options.tokenizer = &*tokenizer_;
    return options;
  }

  GenerationRequest Doubtful(int num_choices) const {
    GenerationRequest request = Request(0, /*max_new_tokens=*/24);
    request.prompt_ids = RandomIds(cluster_->config(), 70, /*seed=*/5);  // more than a cache block
    request.stop.stop_ids.clear();
    request.sampling = {.temperature = 1.2f,
                        .seed = 11,
                        .top_p = 0.97f,
                        .repetition_penalty = 1.2f,
                        .presence_penalty = 0.3f,
                        .frequency_penalty = 0.4f};
    request.num_top_logprobs = 3;
    request.num_choices = num_choices;
    return request;
  }

  // One stop string that ends the first choice after some 15 tokens, and some that never come but hold
  // back every token that ends with their first byte.
  void AddStopStrings(GenerationRequest& request) {
    const std::vector<OutputEvent> events =
        TakeEvents(*Submit(*Start(*cluster_, Options()), request));
    const Answered first = Sorted(events, events.size(), request.num_choices)[0];
    std::string text, until;
    for (const OutputToken& token : first.tokens) {
      text += tokenizer_->TokenBytes(token.token.id);
      if (token.index == 14) until = text;
    }
    ASSERT_GT(until.size(), 3u);
    request.stop.stop_strings.push_back(until.substr(until.size() - 3));
    std::set<char> bytes(text.begin(), text.end());
    for (const char byte : bytes) {
      if (request.stop.stop_strings.size() == kMaxStopStrings) break;
      request.stop.stop_strings.push_back(std::string{byte, '\x01'});
    }
    request.stop.min_new_tokens = 4;
  }

  // Cuts after each of the undisturbed answer's events.
  void ExpectContinues(const GenerationRequest& request, const EngineOptions& options) {
    const std::vector<OutputEvent> events =
        TakeEvents(*Submit(*Start(*cluster_, Options()), request));
    const std::vector<Answered> whole = Sorted(events, events.size(), request.num_choices);
    const auto engine = Start(*cluster_, options, /*rank=*/1);
    for (size_t cut = 0; cut < events.size() - 1; ++cut) {
      std::vector<Answered> choices = Sorted(events, cut, request.num_choices);
      for (const OutputEvent& event : TakeEvents(*Submit(*engine, ReplayOf(request, choices)))) {
        const OutputToken* token = std::get_if<OutputToken>(&event);
        choices[token != nullptr ? token->choice : std::get<ChoiceEnd>(event).choice].Add(event);
      }
      for (int k = 0; k < request.num_choices; ++k) {
        ExpectSame(choices[k], whole[k], absl::StrCat("cut after ", cut, " events, choice ", k));
      }
      if (HasFailure()) return;
    }
    ExpectNothingUsed(*engine);
  }

  std::unique_ptr<EngineCluster> cluster_;
  absl::StatusOr<Tokenizer> tokenizer_ = Tokenizer::Open("models/abacus");
};

TEST_F(ReplayTest, AnAnswerGoesOnBehindEveryTokenWithPenaltiesAndAlternatives) {
  ExpectContinues(Doubtful(1), Options());
}

TEST_F(ReplayTest, SeveralChoicesGoOnEachWhereItWas) {
  EngineOptions options = Options();
  ExpectContinues(Doubtful(2), options);
  options.use_prefix_cache = false;
  ExpectContinues(Doubtful(3), options);
}

TEST_F(ReplayTest, WhatWasHeldBackForAStopStringComesAsItWouldHave) {
  GenerationRequest request = Doubtful(2);
  AddStopStrings(request);
  ExpectContinues(request, Options());
}

TEST_F(ReplayTest, DraftsChangeNothingOfIt) {
  GenerationRequest request = Doubtful(2);
  AddStopStrings(request);
  for (const int num_drafts : {1, 3}) ExpectContinues(request, Options(num_drafts));
}

TEST_F(ReplayTest, AStopIdBeforeTheCutEndsItWithoutAStep) {
  GenerationRequest request = Request(0);
  const auto engine = Start(*cluster_, Options());
  const Generated whole = TakeAll(*Submit(*engine, request));
  const int64_t num_steps = engine->load().steps;
  request.so_far = {{.ids = whole.ids}};
  const Generated rest = TakeAll(*Submit(*engine, request));
  ASSERT_TRUE(rest.end.ok()) << rest.end.status();
  EXPECT_EQ(*rest.end, EndReason::kStop);
  EXPECT_TRUE(rest.ids.empty());
  EXPECT_EQ(rest.details.num_tokens, static_cast<int>(whole.ids.size()));
  EXPECT_EQ(engine->load().steps, num_steps);
  ExpectNothingUsed(*engine);
}

TEST_F(ReplayTest, UsesThePrefixThatTheRankHas) {
  GenerationRequest request = Doubtful(1);
  const auto engine = Start(*cluster_, Options());
  const Generated whole = TakeAll(*Submit(*engine, request));
  request.so_far = {{.ids = {whole.ids.begin(), whole.ids.begin() + 7}}};
  EXPECT_EQ(TakeAll(*Submit(*engine, request)).details.cached_tokens, kKvBlockTokens);
}

TEST_F(ReplayTest, ALaterAttemptEndsAnEarlierOneAndNeverTheOtherWayRound) {
  const auto engine = Start(*cluster_, Options());
  GenerationRequest request = EndlessRequest();
  request.request_id = "router-0-1";
  request.attempt = 2;
  const auto first = Submit(*engine, request);
  ASSERT_TRUE(TakeOne(*first).has_value());
  request.attempt = 1;
  EXPECT_EQ(engine->Submit(request).status().code(), absl::StatusCode::kAborted);
  request.attempt = 2;
  request.so_far.resize(1);
  const auto second = Submit(*engine, request);
  EXPECT_EQ(TakeAll(*first).end.status().code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(TakeOne(*second).has_value());
  second->Cancel();
  EXPECT_EQ(TakeAll(*second).end.status().code(), absl::StatusCode::kCancelled);
  request.attempt = 1;  // nobody is left to be compared with
  EXPECT_TRUE(TakeOne(*Submit(*engine, request)).has_value());
}

TEST_F(ReplayTest, TakesAPlaceOfTheReserveWhenTheQueueIsFullAndTheReserveIsBoundedToo) {
  EngineOptions options = Options();
  options.scheduler.max_running = 1;
  options.max_waiting_requests = 0;  // two places, of which a tenant may have one
  const auto engine = Start(*cluster_, options);
  std::vector<std::shared_ptr<Outbox>> outboxes = {Submit(*engine, EndlessRequest())};
  EXPECT_EQ(engine->Submit(EndlessRequest()).status().code(), absl::StatusCode::kResourceExhausted);
  GenerationRequest replay = EndlessRequest();
  replay.so_far.resize(1);
  for (int i = 0; i < 2; ++i) outboxes.push_back(Submit(*engine, replay));
  const absl::Status full = engine->Submit(replay).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("2 replayed requests of at most 2"));
  outboxes[1]->Cancel();
  TakeAll(*outboxes[1]);
  outboxes.push_back(Submit(*engine, replay));
  for (const auto& outbox : outboxes) outbox->Cancel();
}

TEST_F(ReplayTest, RefusesWhatCannotHaveComeOfTheRequest) {
  const auto engine = Start(*cluster_, Options());
  const auto refusal = [&](const GenerationRequest& request) {
    const absl::Status status = engine->Submit(request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  GenerationRequest request = Request(0, /*max_new_tokens=*/3);
  request.so_far.resize(2);
  EXPECT_THAT(refusal(request), HasSubstr("2 entries, must have one for each of the 1 choices"));
  request.so_far = {{.ids = {7, -1}}};
  EXPECT_THAT(refusal(request), HasSubstr("choice 0: id -1 at index 1"));
  request.so_far = {{.ids = {7, 1, 7}}};  // the stop id in the middle
  EXPECT_THAT(refusal(request), HasSubstr("has 3 ids, but the answer ends after 2"));
  request.so_far = {{.ids = {7, 7, 7, 7}}};
  EXPECT_THAT(refusal(request), HasSubstr("has 4 ids, but the answer ends after 3"));
  request.so_far = {{.ids = {}, .has_ended = true}};
  EXPECT_THAT(refusal(request), HasSubstr("all 1 choices have ended"));
}

}  // namespace
}  // namespace orrery
