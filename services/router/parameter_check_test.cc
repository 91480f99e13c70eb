#include "services/router/parameter_check.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/tiny_model.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();

using Request = v1::GenerateRequest;

class ParameterCheckTest : public ::testing::Test {
 protected:
  bool IsAccepted(const Request& request) const {
    const absl::Status status = CheckParameters(model_, request);
    EXPECT_TRUE(status.ok()) << status;
    return status.ok();
  }
  std::string ErrorOf(const Request& request) const {
    const absl::Status status = CheckParameters(model_, request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << request.DebugString();
    return std::string(status.message());
  }

  // Values inside and outside a field's range; the message has the field, the value and the limits.
  template <typename Value>
  struct Field {
    std::string name;
    void (Request::*set)(Value);
    std::vector<Value> good, bad;
    std::string limits;
  };
  template <typename Value>
  void Check(const std::vector<Field<Value>>& fields) const {
    for (const Field<Value>& field : fields) {
      for (const Value value : field.good) {
        Request request;
        (request.*field.set)(value);
        EXPECT_TRUE(IsAccepted(request)) << field.name << " " << value;
      }
      for (const Value value : field.bad) {
        Request request;
        (request.*field.set)(value);
        EXPECT_EQ(ErrorOf(request),
                  absl::StrCat(field.name, " is ", value, ", must be ", field.limits));
      }
    }
  }

  const ServedModel model_ = MakeTinyModel();
};

TEST_F(ParameterCheckTest, AcceptsARequestWithoutAnyParameter) { EXPECT_TRUE(IsAccepted({})); }

TEST_F(ParameterCheckTest, RefusesFractionsOutsideTheirRangesAndWhatIsNoNumber) {
  Check<float>({
      {"temperature",
       &Request::set_temperature,
       {0, 0.7f, 2},
       {-0.1f, 2.1f, kNan, kInfinity},
       "0 to 2"},
      {"top_p", &Request::set_top_p, {0, 0.01f, 1}, {-0.5f, 1.5f, kNan}, "0 to 1"},
      {"min_p", &Request::set_min_p, {0, 1}, {-0.5f, 1.5f, kNan}, "0 to 1"},
      {"repetition_penalty",
       &Request::set_repetition_penalty,
       {0, 0.5f, 10},
       {-1, 10.5f, kNan, kInfinity},
       "0 to 10"},
      {"presence_penalty",
       &Request::set_presence_penalty,
       {-2, 0, 2},
       {-2.5f, 2.5f, kNan},
       "-2 to 2"},
      {"frequency_penalty",
       &Request::set_frequency_penalty,
       {-2, 0, 2},
       {-2.5f, 2.5f, -kInfinity},
       "-2 to 2"},
  });
}

TEST_F(ParameterCheckTest, RefusesWholeNumbersOutsideTheirRanges) {
  Check<int32_t>({
      {"max_new_tokens", &Request::set_max_new_tokens, {0, kMaxInt}, {-1}, "at least 0"},
      {"min_new_tokens", &Request::set_min_new_tokens, {0, kMaxInt}, {-1}, "at least 0"},
      {"top_k", &Request::set_top_k, {0, 1, kMaxInt}, {-1}, "at least 0"},
      {"num_top_logprobs", &Request::set_num_top_logprobs, {0}, {-1, 21}, "0 to 20"},
      {"num_choices", &Request::set_num_choices, {0, 1, 16}, {-1, 17}, "0 to 16"},
      {"priority", &Request::set_priority, {-100, 0, 100}, {-101, 101}, "-100 to 100"},
  });
}

TEST_F(ParameterCheckTest, RefusesTopLogprobsWithoutLogprobs) {
  Request request;
  request.set_num_top_logprobs(20);
  EXPECT_THAT(ErrorOf(request), AllOf(HasSubstr("is 20"), HasSubstr("not asked for")));
  request.set_logprobs(true);
  EXPECT_TRUE(IsAccepted(request));
}

TEST_F(ParameterCheckTest, RefusesAMinimumAboveTheMaximum) {
  Request request;
  request.set_max_new_tokens(5);
  request.set_min_new_tokens(5);
  EXPECT_TRUE(IsAccepted(request));
  request.set_min_new_tokens(6);
  EXPECT_EQ(ErrorOf(request), "min_new_tokens is 6, more than max_new_tokens, 5");
}

TEST_F(ParameterCheckTest, RefusesStopStringsThatAreEmptyLongTwiceOrTooMany) {
  Request request;
  request.add_stop(std::string(256, 'x'));
  request.add_stop("\n\n");
  EXPECT_TRUE(IsAccepted(request));
  *request.add_stop() = "";
  EXPECT_EQ(ErrorOf(request), "stop[2] has 0 bytes, must have 1 to 256");
  request.set_stop(2, std::string(257, 'x'));
  EXPECT_EQ(ErrorOf(request), "stop[2] has 257 bytes, must have 1 to 256");
  request.set_stop(2, "\n\n");
  EXPECT_EQ(ErrorOf(request), "stop[2] is the same as stop[1]");
  request.clear_stop();
  for (int i = 0; i < 16; ++i) request.add_stop(absl::StrCat("stop ", i));
  EXPECT_TRUE(IsAccepted(request));
  request.add_stop("another");
  EXPECT_EQ(ErrorOf(request), "stop has 17 entries, at most 16 are allowed");
}

TEST_F(ParameterCheckTest, RefusesStopIdsOutsideTheVocabularyTwiceOrTooMany) {
  Request request;
  request.add_stop_ids(kTinyVocabSize - 1);
  request.add_stop_ids(kTinyEos);
  EXPECT_TRUE(IsAccepted(request));
  for (const int32_t bad : {-1, kTinyVocabSize}) {
    request.set_stop_ids(1, bad);
    EXPECT_EQ(ErrorOf(request), absl::StrCat("stop_ids[1] is ", bad, ", must be 0 to 263"));
  }
  request.set_stop_ids(1, kTinyVocabSize - 1);
  EXPECT_THAT(ErrorOf(request), HasSubstr("stop_ids[1] is 263, which stands before it"));
  request.clear_stop_ids();
  for (int id = 0; id < 65; ++id) request.add_stop_ids(id);
  EXPECT_EQ(ErrorOf(request), "stop_ids has 65 entries, at most 64 are allowed");
}

TEST_F(ParameterCheckTest, RefusesAStopIdThatIgnoreEosTakesBack) {
  Request request;
  request.set_ignore_eos(true);
  request.add_stop_ids(TinyByteId('x'));
  EXPECT_TRUE(IsAccepted(request));
  request.add_stop_ids(kTinyEos);
  EXPECT_THAT(ErrorOf(request), AllOf(HasSubstr("stop_ids[1] is 1"), HasSubstr("ignore_eos")));
}

TEST_F(ParameterCheckTest, RefusesBiasesOutsideVocabularyOrRangeOrTooMany) {
  Request request;
  auto& bias = *request.mutable_logit_bias();
  bias[0] = -100;
  bias[kTinyVocabSize - 1] = 100;
  EXPECT_TRUE(IsAccepted(request));
  for (const float bad : {-100.5f, 101.0f, kNan, kInfinity}) {
    bias[7] = bad;
    EXPECT_EQ(ErrorOf(request), absl::StrCat("logit_bias[7] is ", bad, ", must be -100 to 100"));
  }
  bias.erase(7);
  for (const int32_t bad : {-1, kTinyVocabSize}) {
    bias[bad] = 1;
    EXPECT_EQ(ErrorOf(request), absl::StrCat("an id of logit_bias is ", bad, ", must be 0 to 263"));
    bias.erase(bad);
  }
  for (int id = 0; id < 1025; ++id) bias[id] = 1;
  EXPECT_EQ(ErrorOf(request), "logit_bias has 1025 entries, at most 1024 are allowed");
}

TEST_F(ParameterCheckTest, RefusesTenantsThatAreLongOrCannotBePrinted) {
  Request request;
  request.set_tenant(std::string(64, 't'));
  EXPECT_TRUE(IsAccepted(request));
  request.set_tenant(std::string(65, 't'));
  EXPECT_EQ(ErrorOf(request), "tenant has 65 bytes, at most 64 are allowed");
  request.set_tenant("a\nb");
  EXPECT_EQ(ErrorOf(request), "tenant has byte 0x0a at 1, must be printable ASCII");
  request.set_tenant("caf\xc3\xa9");
  EXPECT_THAT(ErrorOf(request), HasSubstr("0xc3 at 3"));
}

}  // namespace
}  // namespace orrery
