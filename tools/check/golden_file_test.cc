#include "tools/check/golden_file.h"

#include <string>

#include "checkpoint/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Six values: 1.5, 2.5 as f32, then 7, 8, 9, 10 as i32.
GoldenFile Open() {
  const std::string dir = MakeTempDir();
  WriteTempFile(dir, "golden.json", R"({"data_file": "values.bin"})");
  WriteTempFile(dir, "values.bin", BytesOf<float>({1.5f, 2.5f}) + BytesOf<int32_t>({7, 8, 9, 10}));
  auto golden = GoldenFile::Open(dir);
  EXPECT_TRUE(golden.ok()) << golden.status();
  return *std::move(golden);
}

nlohmann::json Entry(const std::string& text) { return nlohmann::json::parse(text); }

TEST(GoldenFile, ReadsArraysWithTheirShapes) {
  const GoldenFile golden = Open();
  const auto floats =
      golden.F32(Entry(R"({"dtype": "F32", "shape": [2], "offset": 0, "nbytes": 8})"));
  ASSERT_TRUE(floats.ok()) << floats.status();
  EXPECT_THAT(floats->values, ElementsAre(1.5f, 2.5f));
  const auto ids =
      golden.I32(Entry(R"({"dtype": "I32", "shape": [2, 2], "offset": 8, "nbytes": 16})"));
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_THAT(ids->shape, ElementsAre(2, 2));
  EXPECT_THAT(ids->values, ElementsAre(7, 8, 9, 10));
}

TEST(GoldenFile, AnEmptyArrayMayLieAtTheEnd) {
  const auto none =
      Open().F32(Entry(R"({"dtype": "F32", "shape": [0, 3], "offset": 24, "nbytes": 0})"));
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_TRUE(none->values.empty());
}

TEST(GoldenFile, AnEntryThatDescribesNoArrayIsAnErrorThatSaysWhy) {
  const GoldenFile golden = Open();
  const struct {
    const char* entry;
    const char* what;
  } kCases[] = {
      {R"({"dtype": "F32", "shape": [2], "offset": 20, "nbytes": 8})", "data file of 24 bytes"},
      {R"({"dtype": "F32", "shape": [2], "offset": 25, "nbytes": 8})", "data file of 24 bytes"},
      {R"({"dtype": "F32", "shape": [2], "offset": -8, "nbytes": 8})", "data file of 24 bytes"},
      {R"({"dtype": "F32", "shape": [2], "offset": 18446744073709551615, "nbytes": 8})",
       "data file of 24 bytes"},
      {R"({"dtype": "F32", "shape": [1000], "offset": 0, "nbytes": 4000})",
       "data file of 24 bytes"},
      {R"({"dtype": "F32", "shape": [2], "offset": 0, "nbytes": 4})", "does not fit the shape"},
      {R"({"dtype": "F32", "shape": [2], "offset": 0, "nbytes": 9})", "does not fit the shape"},
      {R"({"dtype": "F32", "shape": [-1, -2], "offset": 0, "nbytes": 8})", "shape"},
      {R"({"dtype": "F32", "shape": [4611686018427387904, 2], "offset": 0, "nbytes": 0})", "shape"},
      {R"({"dtype": "F32", "shape": [4294967296, 4294967296], "offset": 0, "nbytes": 0})", "shape"},
      {R"({"dtype": "I32", "shape": [2], "offset": 0, "nbytes": 8})", "dtype is not F32"},
      {R"({"shape": [2], "offset": 0, "nbytes": 8})", "dtype"},
      {R"({"dtype": "F32", "offset": 0, "nbytes": 8})", "shape"},
      {R"({"dtype": "F32", "shape": [2], "nbytes": 8})", "offset"},
      {R"({"dtype": "F32", "shape": ["2"], "offset": 0, "nbytes": 8})", "number"},
      {"[]", "array"},
      {"null", "null"},
  };
  for (const auto& wrong : kCases) {
    const auto array = golden.F32(Entry(wrong.entry));
    EXPECT_EQ(array.status().code(), absl::StatusCode::kInvalidArgument) << wrong.entry;
    EXPECT_THAT(std::string(array.status().message()), HasSubstr(wrong.what)) << wrong.entry;
  }
}

TEST(GoldenFile, AFolderWithoutGoldenJsonIsNamed) {
  const std::string dir = MakeTempDir();
  const auto golden = GoldenFile::Open(dir);
  EXPECT_EQ(golden.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(golden.status().message()), HasSubstr(dir + "/golden.json"));
}

TEST(GoldenFile, AMissingDataFileIsNamed) {
  const std::string dir = MakeTempDir();
  WriteTempFile(dir, "golden.json", R"({"data_file": "lost.bin"})");
  const auto golden = GoldenFile::Open(dir);
  EXPECT_EQ(golden.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(golden.status().message()), HasSubstr("lost.bin"));
}

TEST(GoldenFile, WhatIsNoJsonObjectIsRefused) {
  for (const char* text : {"", "{", "[1]", "\xff"}) {
    const std::string dir = MakeTempDir();
    WriteTempFile(dir, "golden.json", text);
    EXPECT_EQ(GoldenFile::Open(dir).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace orrery
