#include "tools/bench/load.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

Load Defaults() {
  Load load;
  load.concurrency = 4;
  load.prompt_tokens = {.min = 100, .max = 200};
  load.output_tokens = {.min = 10, .max = 10};
  return load;
}

std::string ErrorOf(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(TokenRange, IsANumberOrTwoWithADash) {
  const auto one = ParseTokenRange("64");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->min, 64);
  EXPECT_EQ(one->max, 64);
  EXPECT_EQ(one->ToString(), "64");
  const auto two = ParseTokenRange("64-512");
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(two->min, 64);
  EXPECT_EQ(two->max, 512);
  EXPECT_EQ(two->ToString(), "64-512");
}

TEST(TokenRange, RefusesWhatIsNone) {
  for (const char* text : {"", "-", "x", "0", "-5", "5-", "-5-7", "9-8", "1-2-3", "1.5"}) {
    EXPECT_THAT(ErrorOf(ParseTokenRange(text).status()), HasSubstr("64-512")) << text;
  }
}

TEST(Tenants, TakeWhatIsNotSaidFromTheDefaults) {
  const auto loads =
      ParseTenants("A:rate=40.5,prompt=256,output=64-128,arrivals=regular;B;", Defaults());
  ASSERT_TRUE(loads.ok()) << loads.status();
  ASSERT_EQ(loads->size(), 2);
  const Load& a = (*loads)[0];
  EXPECT_EQ(a.tenant, "A");
  EXPECT_EQ(a.rate, 40.5);
  EXPECT_EQ(a.concurrency, 0);
  EXPECT_EQ(a.prompt_tokens.ToString(), "256");
  EXPECT_EQ(a.output_tokens.ToString(), "64-128");
  EXPECT_EQ(a.arrivals, Arrivals::kRegular);
  const Load& b = (*loads)[1];
  EXPECT_EQ(b.tenant, "B");
  EXPECT_FALSE(b.is_open());
  EXPECT_EQ(b.limit(), 4);
  EXPECT_EQ(b.prompt_tokens.ToString(), "100-200");
}

TEST(Tenants, ErrorsNameTheTenantAndTheSetting) {
  const auto error_of = [](const std::string& text) {
    return ErrorOf(ParseTenants(text, Defaults()).status());
  };
  EXPECT_THAT(error_of(""), HasSubstr("no tenant"));
  EXPECT_THAT(error_of(":rate=1"), HasSubstr("must begin with a name"));
  EXPECT_THAT(error_of("A:rate=1;A:rate=2"), HasSubstr("A is there twice"));
  EXPECT_THAT(error_of("A:rate=fast"), HasSubstr("tenant A, \"rate=fast\": \"fast\" is no number"));
  EXPECT_THAT(error_of("A:speed=1"), HasSubstr("must be one of rate, concurrency"));
  EXPECT_THAT(error_of("A:prefix=1e3"), HasSubstr("\"1e3\" is no whole number"));
}

TEST(CheckLoad, GivesValueAndLimit) {
  EXPECT_TRUE(CheckLoad(Defaults(), 210).ok());
  EXPECT_THAT(ErrorOf(CheckLoad(Defaults(), 209)), HasSubstr("context is 209"));
  Load load = Defaults();
  load.rate = 1.0;
  EXPECT_THAT(ErrorOf(CheckLoad(load, 4096)), HasSubstr("concurrency 4 and rate 1"));
  load.concurrency = 0;
  EXPECT_TRUE(CheckLoad(load, 4096).ok());
  load.max_concurrency = 100000;
  EXPECT_THAT(ErrorOf(CheckLoad(load, 4096)), HasSubstr("must be 1 to 4096"));
  load = Defaults();
  load.prefix_tokens = 100;
  load.tenant = "A";
  EXPECT_THAT(ErrorOf(CheckLoad(load, 4096)), HasSubstr("tenant A: prefix of 100 tokens"));
  load = Defaults();
  load.concurrency = 0;
  EXPECT_THAT(ErrorOf(CheckLoad(load, 4096)), HasSubstr("concurrency 0 and rate 0"));
}

}  // namespace
}  // namespace orrery
