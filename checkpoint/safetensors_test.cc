#include "checkpoint/safetensors.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "checkpoint/test_files.h"
#include "checkpoint/value_check.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using testing::HasSubstr;

absl::StatusOr<std::unique_ptr<SafetensorsFile>> OpenBytes(const std::string& bytes) {
  return SafetensorsFile::Open(WriteTempFile(MakeTempDir(), "model.safetensors", bytes));
}

// Opens a file with this header before `num_data_bytes` zeros, and returns what went wrong.
absl::Status StatusOf(const std::string& header, size_t num_data_bytes) {
  return OpenBytes(SafetensorsBytes(header, std::string(num_data_bytes, '\0'))).status();
}

TEST(Safetensors, ReadsEveryDtypeAtAnyAlignment) {
  // A header of odd length puts the data at an odd address.
  std::string header = R"({"__metadata__": {"format": "pt"},
      "a": {"dtype": "F8_E4M3", "shape": [3], "data_offsets": [0, 3]},
      "b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [3, 11]},
      "c": {"dtype": "BF16", "shape": [], "data_offsets": [11, 13]},
      "d": {"dtype": "F16", "shape": [0, 5], "data_offsets": [13, 13]},
      "e": {"dtype": "I64", "shape": [1], "data_offsets": [13, 21]}})";
  if (header.size() % 2 == 0) header += " ";
  const std::string data = "abc" + BytesOf<float>({1.5f, -2.0f}) + std::string(10, 'x');
  const auto file = OpenBytes(SafetensorsBytes(header, data));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto& tensors = (*file)->tensors();
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors.at("a").dtype, DType::kFp8E4m3);
  EXPECT_EQ(tensors.at("b").shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(tensors.at("b").data), 8), data.substr(3, 8));
  EXPECT_EQ(tensors.at("c").num_bytes, 2u);
  EXPECT_EQ(tensors.at("d").num_bytes, 0u);
  EXPECT_EQ((*file)->unreadable_tensors().at("e"), "I64");
  EXPECT_EQ((*file)->bytes().size(), 8 + header.size() + data.size());
}

TEST(Safetensors, OpensAFileWithoutTensors) {
  EXPECT_TRUE(StatusOf("{}", 0).ok());
  EXPECT_TRUE(StatusOf("{\"__metadata__\": {}}   ", 0).ok());
}

TEST(Safetensors, ReportsAMissingFile) {
  const absl::Status status = SafetensorsFile::Open("/nonexistent/model.safetensors").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nonexistent/model.safetensors"));
}

TEST(Safetensors, ReportsEveryTruncation) {
  const std::string whole = SafetensorsBytes(
      R"({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", std::string(8, '\0'));
  ASSERT_TRUE(OpenBytes(whole).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(OpenBytes(whole.substr(0, size)).status().code(), absl::StatusCode::kDataLoss)
        << size;
  }
}

TEST(Safetensors, ReportsAHeaderLongerThanTheFile) {
  for (const uint64_t length :
       {uint64_t{100}, uint64_t{1} << 40, std::numeric_limits<uint64_t>::max()}) {
    std::string bytes = SafetensorsBytes("{}", "");
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(length >> (8 * i));
    const absl::Status status = OpenBytes(bytes).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(length)));
  }
}

struct Damage {
  const char* entries;  // of the header
  size_t num_data_bytes;
  const char* message;
};

class SafetensorsReports : public testing::TestWithParam<Damage> {};

TEST_P(SafetensorsReports, DamageWithPathAndTensor) {
  const absl::Status status =
      StatusOf(absl::StrCat("{", GetParam().entries, "}"), GetParam().num_data_bytes);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << GetParam().entries;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors: "));
}

INSTANTIATE_TEST_SUITE_P(
    All, SafetensorsReports,
    testing::Values(
        Damage{R"("w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]})", 7,
               "tensor w: data_offsets [0,8]"},
        Damage{R"("w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]})", 8,
               "tensor w: data_offsets [8,0]"},
        Damage{R"("w": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]})", 8,
               "tensor w: data_offsets [-8,0]"},
        Damage{R"("w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8.5]})", 8,
               "tensor w: data_offsets"},
        Damage{R"("w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 18446744073709551615]})",
               8, "tensor w: data_offsets"},
        Damage{R"("w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]})", 8,
               "tensor w: shape [3] of F32"},
        Damage{R"("w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 8]})", 8,
               "tensor w: shape [2] of BF16"},
        Damage{
            R"("w": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 8]})",
            8, "does not fill"},
        Damage{R"("w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]})", 8,
               "not a list of sizes"},
        Damage{R"("w": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]})", 8,
               "tensor w: expected dtype"},
        Damage{R"("w": {"shape": [2], "data_offsets": [0, 8]})", 8, "tensor w: expected dtype"},
        Damage{R"("w": {"dtype": "F32", "shape": [2]})", 8, "tensor w: expected dtype"},
        Damage{R"("w": 3)", 8, "tensor w: expected dtype"},
        Damage{R"("v": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                  "w": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}})",
               12, "header"},
        Damage{R"("v": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                  "w": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]})",
               12, "tensor w at byte 4 overlaps v"},
        Damage{R"("v": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                  "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]})",
               8, "overlaps"},
        Damage{R"("v": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]},
                  "w": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]})",
               12, "overlaps v"},
        Damage{R"("w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]})", 8,
               "belong to no tensor"},
        Damage{R"("w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})", 8,
               "last 4 of 8 data bytes"},
        Damage{R"("w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                  "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})",
               4, "stands twice"},
        Damage{R"("w": )", 8, "not JSON"}));

TEST(Safetensors, ReportsAHeaderThatIsNoObject) {
  EXPECT_EQ(StatusOf("[]", 0).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(StatusOf("", 0).code(), absl::StatusCode::kDataLoss);
}

template <typename Code>
void ExpectFinds(DType dtype, Code good, const std::vector<Code>& bad) {
  for (const size_t size : {size_t{1}, size_t{5}, size_t{4096}, size_t{10001}}) {
    std::vector<Code> values(size, good);
    // One byte further than the vector's own alignment.
    std::string bytes = " " + BytesOf(values);
    TensorView tensor{dtype,
                      {static_cast<int64_t>(size)},
                      reinterpret_cast<const std::byte*>(bytes.data() + 1),
                      size * sizeof(Code)};
    EXPECT_EQ(FindNonFinite(tensor), std::nullopt);
    for (const Code code : bad) {
      for (const size_t index : {size_t{0}, size / 2, size - 1}) {
        std::vector<Code> damaged = values;
        damaged[index] = code;
        bytes = " " + BytesOf(damaged);
        tensor.data = reinterpret_cast<const std::byte*>(bytes.data() + 1);
        EXPECT_EQ(FindNonFinite(tensor), index) << size << " " << uint32_t{code};
      }
    }
  }
}

TEST(FindNonFinite, FindsTheFirstNanOrInfinityOfEachDtype) {
  ExpectFinds<uint32_t>(DType::kF32, 0xff7fffff,
                        {0x7f800000, 0xff800000, 0x7fc00000, 0xffffffff, 0x7f800001});
  ExpectFinds<uint16_t>(DType::kBf16, 0xff7f, {0x7f80, 0xff80, 0x7fc0, 0xffff});
  ExpectFinds<uint16_t>(DType::kF16, 0xfbff, {0x7c00, 0xfc00, 0x7e00, 0xffff});
  ExpectFinds<uint8_t>(DType::kFp8E4m3, 0xfe, {0x7f, 0xff});
}

TEST(FindNonFinite, FindsNothingInAnEmptyTensor) {
  EXPECT_EQ(FindNonFinite(TensorView{DType::kF32, {0}, nullptr, 0}), std::nullopt);
}

}  // namespace
}  // namespace orrery
