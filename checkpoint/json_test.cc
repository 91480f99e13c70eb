#include "checkpoint/json.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using testing::HasSubstr;

TEST(ParseJson, ReadsNestedValues) {
  const absl::StatusOr<Json> json =
      ParseJson(R"({"a": [1, -2, 3.5, true, null, "é"], "b": {"c": {}}})", "f");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->dump(), R"({"a":[1,-2,3.5,true,null,"é"],"b":{"c":{}}})");
}

TEST(ParseJson, RefusesWhatIsNotJson) {
  for (const char* text :
       {"", "{", "[1,]", "{\"a\":}", "nul", "1e999", "{} {}", "\"\xff\"", "{\"a\":1,}"}) {
    const absl::StatusOr<Json> json = ParseJson(text, "some/file");
    EXPECT_EQ(json.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(json.status().message()), HasSubstr("some/file")) << text;
  }
}

TEST(ParseJson, RefusesAKeyThatStandsTwice) {
  const absl::StatusOr<Json> json = ParseJson(R"({"a": {"x": 1, "x": 2}})", "f");
  EXPECT_THAT(std::string(json.status().message()), HasSubstr("\"x\" stands twice"));
  EXPECT_TRUE(ParseJson(R"([{"x": 1}, {"x": 2}])", "f").ok());
}

TEST(ParseJson, RefusesDeepNesting) {
  EXPECT_TRUE(
      ParseJson(std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']'), "f").ok());
  EXPECT_EQ(ParseJson(std::string(1 << 20, '['), "f").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(JsonReader, CollectsEveryProblemWithNameAndValue) {
  const Json json =
      Json::parse(R"({"a": "x", "b": 7, "c": 1.5, "d": 18446744073709551615, "e": 2})");
  JsonReader fields(json, "f");
  fields.Int("a", {0, 9});
  fields.Int("b", {0, 5});
  fields.Int("c", {0, 5});
  fields.Int("d", {0, 5});
  fields.Int("missing", {0, 5});
  EXPECT_EQ(fields.Int("e", {0, 5}), 2);
  EXPECT_EQ(fields.status().message(),
            "f: a is \"x\": must be an integer\n"
            "f: b is 7: must be 0 to 5\n"
            "f: c is 1.5: must be an integer\n"
            "f: d is 18446744073709551615: must be 0 to 5\n"
            "f: missing is missing");
}

TEST(JsonReader, TakesTheFallbackForAbsentAndNull) {
  const Json json = Json::parse(R"({"a": null, "b": "x"})");
  JsonReader fields(json, "f");
  EXPECT_EQ(fields.IntOr("a", 3, {0, 9}), 3);
  EXPECT_EQ(fields.NumberOr("none", 0.5, {0, 1}), 0.5);
  EXPECT_TRUE(fields.BoolOr("a", true));
  EXPECT_EQ(fields.StringOr("b", "y"), "x");
  EXPECT_TRUE(fields.status().ok());
}

TEST(JsonReader, RefusesUnknownFieldsUnlessTheyAreOff) {
  const Json json =
      Json::parse(R"({"known": 1, "off1": null, "off2": false, "off3": [], "off4": 0, "on": 0.5})");
  JsonReader fields(json, "f");
  fields.RefuseUnknown({"known"});
  EXPECT_THAT(std::string(fields.status().message()), HasSubstr("f: on is 0.5"));
  EXPECT_THAT(std::string(fields.status().message()), testing::Not(HasSubstr("off")));
}

TEST(JsonReader, SaysOnceThatItHasNoObject) {
  const Json json = Json::parse("[1]");
  JsonReader fields(json, "f");
  fields.Int("a", {1, 2});
  fields.String("b");
  EXPECT_EQ(fields.status().message(), "f: expected an object, found [1]");
}

}  // namespace
}  // namespace orrery
