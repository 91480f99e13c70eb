#include "services/router/sequence_request.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/tiny_model.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SequenceRequestTest : public ::testing::Test {
 protected:
  internal::SequenceRequest Make(bool share_prefix_cache = false) const {
    const auto prompt = BuildPrompt(model_, request_);
    EXPECT_TRUE(prompt.ok()) << prompt.status();
    return MakeSequenceRequest(model_, request_, *prompt,
                               {.request_id = "r-1", .share_prefix_cache = share_prefix_cache});
  }
  SequenceRequestTest() { request_.set_text("ab"); }

  const ServedModel model_ = MakeTinyModel();
  v1::GenerateRequest request_;
};

TEST_F(SequenceRequestTest, CarriesEveryParameter) {
  request_.set_max_new_tokens(9);
  request_.set_min_new_tokens(2);
  request_.set_temperature(0.5f);
  request_.set_seed(77);
  request_.set_top_k(40);
  request_.set_top_p(0.9f);
  request_.set_min_p(0.1f);
  request_.set_repetition_penalty(1.1f);
  request_.set_presence_penalty(0.2f);
  request_.set_frequency_penalty(0.3f);
  (*request_.mutable_logit_bias())[5] = -100;
  request_.add_stop("\n\n");
  request_.set_logprobs(true);
  request_.set_num_top_logprobs(3);
  request_.set_num_choices(4);
  request_.set_tenant("blue");
  request_.set_priority(-7);
  const internal::SequenceRequest sequence = Make();
  EXPECT_EQ(sequence.request_id(), "r-1");
  EXPECT_THAT(sequence.prompt_ids(), ElementsAre(TinyByteId('a'), TinyByteId('b')));
  EXPECT_EQ(sequence.max_new_tokens(), 9);
  EXPECT_EQ(sequence.min_new_tokens(), 2);
  EXPECT_THAT(sequence.stop_strings(), ElementsAre("\n\n"));
  EXPECT_EQ(sequence.num_top_logprobs(), 3);
  EXPECT_EQ(sequence.num_choices(), 4);
  EXPECT_EQ(sequence.tenant(), "blue");
  EXPECT_EQ(sequence.priority(), -7);
  const internal::Sampling& sampling = sequence.sampling();
  EXPECT_EQ(sampling.temperature(), 0.5f);
  EXPECT_EQ(sampling.seed(), 77);
  EXPECT_EQ(sampling.top_k(), 40);
  EXPECT_EQ(sampling.top_p(), 0.9f);
  EXPECT_EQ(sampling.min_p(), 0.1f);
  EXPECT_EQ(sampling.repetition_penalty(), 1.1f);
  EXPECT_EQ(sampling.presence_penalty(), 0.2f);
  EXPECT_EQ(sampling.frequency_penalty(), 0.3f);
  EXPECT_EQ(sampling.logit_bias().at(5), -100);
}

TEST_F(SequenceRequestTest, AsksForOneChoiceAndTheRestOfTheContextUnlessTold) {
  EXPECT_EQ(Make().num_choices(), 1);
  EXPECT_EQ(Make().max_new_tokens(), 98);
}

TEST_F(SequenceRequestTest, DrawsASeedOnlyWhereThereIsNone) {
  EXPECT_NE(Make().sampling().seed(), Make().sampling().seed());
  request_.set_seed(0);
  EXPECT_EQ(Make().sampling().seed(), 0);
}

TEST_F(SequenceRequestTest, StopsAtTheModelsIdsAndAtItsOwnEachOnce) {
  EXPECT_THAT(Make().stop_ids(), ElementsAre(kTinyEos));
  request_.add_stop_ids(TinyByteId('x'));
  request_.add_stop_ids(kTinyEos);
  EXPECT_THAT(Make().stop_ids(), ElementsAre(kTinyEos, TinyByteId('x')));
}

TEST_F(SequenceRequestTest, LeavesTheModelsStopIdsOutWhenTheyAreIgnored) {
  request_.set_ignore_eos(true);
  request_.add_stop_ids(TinyByteId('x'));
  EXPECT_THAT(Make().stop_ids(), ElementsAre(TinyByteId('x')));
}

// The client never sees them, so no stop string may match them.
TEST_F(SequenceRequestTest, TheMarkersAroundThinkingAreSilent) {
  EXPECT_THAT(Make().silent_ids(), ElementsAre(kTinyThink, kTinyEndThink));
  const ServedModel plain = MakeTinyModel({.has_thinking = false});
  const auto prompt = BuildPrompt(plain, request_);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_THAT(MakeSequenceRequest(plain, request_, *prompt, {}).silent_ids(), IsEmpty());
}

TEST_F(SequenceRequestTest, KeepsTheCachesOfTenantsApartUnlessTheyAreShared) {
  request_.set_tenant("blue");
  const std::string blue = Make().cache_salt();
  const std::string shared = Make(/*share_prefix_cache=*/true).cache_salt();
  request_.set_tenant("red");
  EXPECT_NE(Make().cache_salt(), blue);
  EXPECT_EQ(Make(/*share_prefix_cache=*/true).cache_salt(), shared);
  // Nobody gets into the common cache, or a nameless tenant's, by a clever name.
  for (const std::string& name : {shared, std::string()}) {
    request_.set_tenant(name);
    EXPECT_NE(Make().cache_salt(), shared);
    EXPECT_NE(Make().cache_salt(), blue);
  }
}

}  // namespace
}  // namespace orrery
