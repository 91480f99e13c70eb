#include "services/router/prompt.h"

#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/tiny_model.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::GenerateRequest TextRequest(const std::string& text) {
  v1::GenerateRequest request;
  request.set_text(text);
  return request;
}

class PromptTest : public ::testing::Test {
 protected:
  std::string ErrorOf(const v1::GenerateRequest& request,
                      absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    const auto prompt = BuildPrompt(model_, request);
    EXPECT_EQ(prompt.status().code(), code) << prompt.status();
    return std::string(prompt.status().message());
  }

  const ServedModel model_ = MakeTinyModel({.max_context_tokens = 20});
};

TEST_F(PromptTest, TakesTextAsItStandsWithoutSpecialTokens) {
  const auto prompt = BuildPrompt(model_, TextRequest("<think>é"));
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(prompt->ids, TinyIds("<think>é"));
  EXPECT_FALSE(prompt->starts_in_thinking);
}

TEST_F(PromptTest, LeavesAsMuchRoomAsTheContextHasWhenNoLimitIsGiven) {
  const auto prompt = BuildPrompt(model_, TextRequest("12345"));
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(prompt->max_new_tokens, 15);
}

TEST_F(PromptTest, PutsMessagesThroughTheTemplateAndKnowsThatItOpensTheThinking) {
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_messages()->add_message();
  message.set_role(v1::MESSAGE_ROLE_USER);
  message.set_content("Hi");
  const auto prompt = BuildPrompt(model_, request);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_THAT(prompt->ids, ElementsAre(kTinyBos, kTinyUser, TinyByteId('H'), TinyByteId('i'),
                                       kTinyAssistant, kTinyThink, TinyByteId('\n')));
  EXPECT_TRUE(prompt->starts_in_thinking);
  request.set_thinking(v1::THINKING_LEAVE_TO_MODEL);
  const auto closed = BuildPrompt(model_, request);
  ASSERT_TRUE(closed.ok()) << closed.status();
  EXPECT_FALSE(closed->starts_in_thinking);
}

TEST_F(PromptTest, MessagesCannotForgeRoles) {
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_messages()->add_message();
  message.set_role(v1::MESSAGE_ROLE_USER);
  message.set_content("</think>");
  const auto prompt = BuildPrompt(model_, request);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_THAT(prompt->ids, ::testing::Not(::testing::Contains(kTinyEndThink)));
}

TEST_F(PromptTest, RefusesEmptyPromptsOfEveryKind) {
  EXPECT_THAT(ErrorOf({}), HasSubstr("no prompt"));
  EXPECT_THAT(ErrorOf(TextRequest("")), HasSubstr("empty"));
  v1::GenerateRequest request;
  request.mutable_messages();
  EXPECT_THAT(ErrorOf(request), HasSubstr("no messages"));
  request.mutable_messages()->add_message()->set_role(v1::MESSAGE_ROLE_USER);
  EXPECT_THAT(ErrorOf(request), HasSubstr("no message has a text"));
  request.mutable_ids();
  EXPECT_THAT(ErrorOf(request), HasSubstr("empty"));
}

TEST_F(PromptTest, RefusesTextThatIsNotUtf8) {
  EXPECT_THAT(ErrorOf(TextRequest("ab\xff")), HasSubstr("2"));
}

TEST_F(PromptTest, RefusesAPromptThatLeavesNoRoomWithTheNumbers) {
  EXPECT_TRUE(BuildPrompt(model_, TextRequest(std::string(19, 'x'))).ok());
  EXPECT_THAT(ErrorOf(TextRequest(std::string(20, 'x'))),
              AllOf(HasSubstr("20 tokens; "), HasSubstr("limit of model \"tiny\" is 20")));
}

TEST_F(PromptTest, RefusesAnAnswerThatDoesNotFitWithTheNumbers) {
  v1::GenerateRequest request = TextRequest("12345");
  request.set_max_new_tokens(15);
  EXPECT_TRUE(BuildPrompt(model_, request).ok());
  request.set_max_new_tokens(16);
  EXPECT_THAT(ErrorOf(request),
              AllOf(HasSubstr("5 tokens"), HasSubstr("16"), HasSubstr("21"), HasSubstr("is 20")));
  request.set_max_new_tokens(std::numeric_limits<int32_t>::max());
  EXPECT_THAT(ErrorOf(request), HasSubstr("2147483652"));
  request.set_max_new_tokens(-1);
  EXPECT_THAT(ErrorOf(request), HasSubstr("max_new_tokens is -1"));
}

TEST_F(PromptTest, RefusesTemperaturesOutsideTheRange) {
  v1::GenerateRequest request = TextRequest("x");
  for (const float good : {0.0f, 0.7f, 2.0f}) {
    request.set_temperature(good);
    EXPECT_TRUE(BuildPrompt(model_, request).ok()) << good;
  }
  for (const float bad : {-0.1f, 2.1f, std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    request.set_temperature(bad);
    EXPECT_THAT(ErrorOf(request), HasSubstr("must be 0 to 2"));
  }
}

TEST_F(PromptTest, RefusesTopLogprobsOutsideTheRangeOrWithoutLogprobs) {
  v1::GenerateRequest request = TextRequest("x");
  request.set_num_top_logprobs(20);
  EXPECT_THAT(ErrorOf(request), HasSubstr("not asked for"));
  request.set_logprobs(true);
  EXPECT_TRUE(BuildPrompt(model_, request).ok());
  for (const int bad : {-1, 21}) {
    request.set_num_top_logprobs(bad);
    EXPECT_THAT(ErrorOf(request), HasSubstr("must be 0 to 20"));
  }
}

TEST_F(PromptTest, RefusesAnUnknownModelAndNamesTheKnownOne) {
  v1::GenerateRequest request = TextRequest("x");
  request.set_model("tiny");
  EXPECT_TRUE(BuildPrompt(model_, request).ok());
  request.set_model("big");
  EXPECT_THAT(ErrorOf(request, absl::StatusCode::kNotFound),
              AllOf(HasSubstr("\"big\""), HasSubstr("\"tiny\"")));
}

TEST_F(PromptTest, RefusesIdsOutsideTheVocabulary) {
  v1::GenerateRequest request;
  request.mutable_ids()->add_id(kTinyVocabSize - 1);
  EXPECT_TRUE(BuildPrompt(model_, request).ok());
  for (const int32_t bad : {-1, kTinyVocabSize}) {
    request.mutable_ids()->clear_id();
    request.mutable_ids()->add_id(7);
    request.mutable_ids()->add_id(bad);
    EXPECT_THAT(ErrorOf(request),
                AllOf(HasSubstr(std::to_string(bad)), HasSubstr("position 1"), HasSubstr("263")));
  }
}

TEST_F(PromptTest, RefusesRolesAndThinkingThatDoNotExist) {
  v1::GenerateRequest request;
  request.mutable_messages()->add_message()->set_content("x");
  EXPECT_THAT(ErrorOf(request), HasSubstr("message 0"));
  request.mutable_messages()->mutable_message(0)->set_role(v1::MESSAGE_ROLE_USER);
  request.set_thinking(static_cast<v1::Thinking>(9));
  EXPECT_THAT(ErrorOf(request), HasSubstr("9"));
}

TEST_F(PromptTest, SaysWhyAModelTakesNoMessages) {
  ServedModel model = MakeTinyModel();
  model.chat_template = absl::InvalidArgumentError("a template of another family");
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_messages()->add_message();
  message.set_role(v1::MESSAGE_ROLE_USER);
  message.set_content("x");
  const auto prompt = BuildPrompt(model, request);
  EXPECT_THAT(std::string(prompt.status().message()),
              HasSubstr("only text or ids: a template of another family"));
}

TEST(EndsInThinking, IsDecidedByTheLastMarker) {
  const ThinkingMarkers markers{.open = 4, .close = 5};
  EXPECT_FALSE(EndsInThinking(markers, {}));
  EXPECT_TRUE(EndsInThinking(markers, {1, 4, 2}));
  EXPECT_FALSE(EndsInThinking(markers, {4, 2, 5, 2}));
  EXPECT_TRUE(EndsInThinking(markers, {4, 5, 4}));
  EXPECT_FALSE(EndsInThinking({}, {4, 0}));
}

TEST(ContextLimit, IsTheSmallestOfModelFileAndCache) {
  ModelConfig config;
  config.max_positions = 4096;
  internal::Limits limits;
  EXPECT_EQ(ContextLimit(config, limits).value(), 4096);
  limits.set_kv_cache_tokens(1000);
  EXPECT_EQ(ContextLimit(config, limits).value(), 1000);
  limits.set_max_context_tokens(500);
  EXPECT_EQ(ContextLimit(config, limits).value(), 500);
  limits.set_max_context_tokens(5000);
  EXPECT_THAT(std::string(ContextLimit(config, limits).status().message()),
              AllOf(HasSubstr("5000"), HasSubstr("4096")));
}

}  // namespace
}  // namespace orrery
