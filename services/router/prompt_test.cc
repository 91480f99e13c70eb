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

TEST_F(PromptTest, RefusesAMinimumThatTheContextDoesNotLeaveWithTheNumbers) {
  v1::GenerateRequest request = TextRequest("12345");
  request.set_min_new_tokens(15);
  EXPECT_TRUE(BuildPrompt(model_, request).ok());
  request.set_min_new_tokens(16);
  EXPECT_THAT(ErrorOf(request),
              AllOf(HasSubstr("min_new_tokens is 16"), HasSubstr("leaves 15"), HasSubstr("20")));
}

TEST_F(PromptTest, RefusesBadParameters) {
  v1::GenerateRequest request = TextRequest("12345");
  request.set_temperature(3.0f);
  EXPECT_THAT(ErrorOf(request), HasSubstr("temperature is 3, must be 0 to 2"));
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

class ContextLimitTest : public ::testing::Test {
 protected:
  // 10 values per token: 20 bytes at bf16, 1280 a block.
  ContextLimitTest() {
    config_.max_positions = 4096;
    config_.num_layers = 2;
    config_.kv_lora_rank = 4;
    config_.qk_rope_head_dim = 1;
  }
  absl::StatusOr<int> Limit(internal::Precision precision = internal::PRECISION_BF16) const {
    return ContextLimit(config_, limits_, precision);
  }
  std::string Error() const { return std::string(Limit().status().message()); }

  ModelConfig config_;
  internal::Limits limits_;
};

TEST_F(ContextLimitTest, IsTheSmallestOfModelFileAndCache) {
  EXPECT_EQ(Limit().value(), 4096);
  limits_.set_kv_cache_bytes(10 * 1280 + 1279);
  EXPECT_EQ(Limit().value(), 640);
  EXPECT_EQ(Limit(internal::PRECISION_F32).value(), 320);
  limits_.set_max_context_tokens(500);
  EXPECT_EQ(Limit().value(), 500);
  limits_.set_max_context_tokens(5000);
  EXPECT_THAT(Error(), AllOf(HasSubstr("5000"), HasSubstr("4096")));
}

TEST_F(ContextLimitTest, IsBoundedByTheDefaultCacheInSilenceOnlyIfTheFileSaysNone) {
  config_.max_positions = 131072;
  EXPECT_EQ(Limit().value(), 65536);
  limits_.set_max_context_tokens(65536);
  EXPECT_EQ(Limit().value(), 65536);
  limits_.set_max_context_tokens(65537);
  EXPECT_EQ(Limit().status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Error(), AllOf(HasSubstr("kv_cache_bytes is 0 (the default)"),
                             HasSubstr("holds 65536 tokens"), HasSubstr("needs 65537")));
}

TEST_F(ContextLimitTest, RefusesACacheThatTheLongestRequestDoesNotFitInto) {
  limits_.set_kv_cache_bytes(1280 * 3);
  limits_.set_max_context_tokens(192);
  EXPECT_TRUE(Limit().ok());
  limits_.set_max_context_tokens(193);
  EXPECT_THAT(Error(), AllOf(HasSubstr("kv_cache_bytes is 3840"), HasSubstr("192 tokens"),
                             HasSubstr("20 bytes"), HasSubstr("needs 193")));
  limits_.set_max_context_tokens(0);
  limits_.set_kv_cache_bytes(1279);
  EXPECT_THAT(Error(), AllOf(HasSubstr("1279"), HasSubstr("holds 0 tokens")));
}

TEST_F(ContextLimitTest, DraftingTakesCacheAndNeedsAModule) {
  limits_.set_num_draft_tokens(2);
  EXPECT_THAT(Error(), AllOf(HasSubstr("num_draft_tokens is 2"), HasSubstr("no MTP module")));
  config_.num_mtp_layers = 1;
  limits_.set_kv_cache_bytes(1280 * 3);  // 1920 a block with the module
  EXPECT_EQ(Limit().value(), 126);       // and drafts stand behind the last token
}

}  // namespace
}  // namespace orrery
