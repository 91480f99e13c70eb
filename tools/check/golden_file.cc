#include "tools/check/golden_file.h"

#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace orrery {

absl::StatusOr<std::string> ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open ", path));
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

absl::StatusOr<GoldenFile> GoldenFile::Open(const std::string& dir) {
  GoldenFile golden;
  golden.dir_ = dir;
  ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(dir + "/golden.json"));
  golden.json_ = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!golden.json_.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(dir, "/golden.json is not a JSON object"));
  }
  const auto data_file = golden.json_.find("data_file");
  if (data_file != golden.json_.end() && data_file->is_string()) {
    ASSIGN_OR_RETURN(golden.data_, ReadWholeFile(dir + "/" + data_file->get<std::string>()));
  }
  return golden;
}

template <typename T>
absl::StatusOr<Array<T>> GoldenFile::Read(const nlohmann::json& entry,
                                          const std::string& dtype) const {
  const auto bad = [&](const std::string& why) {
    return absl::InvalidArgumentError(
        absl::StrCat(dir_, "/golden.json: array ", entry.dump(), ": ", why));
  };
  try {
    if (entry.at("dtype").get<std::string>() != dtype)
      return bad(absl::StrCat("dtype is not ", dtype));
    Array<T> array;
    int64_t num_values = 1;
    for (const auto& size : entry.at("shape")) {
      array.shape.push_back(size.get<int64_t>());
      if (array.shape.back() < 0 ||
          __builtin_mul_overflow(num_values, array.shape.back(), &num_values)) {
        return bad("the shape is impossible");
      }
    }
    const uint64_t offset = entry.at("offset").get<uint64_t>();
    const uint64_t num_bytes = entry.at("nbytes").get<uint64_t>();
    if (num_bytes % sizeof(T) != 0 || num_bytes / sizeof(T) != static_cast<uint64_t>(num_values)) {
      return bad("nbytes does not fit the shape");
    }
    if (offset > data_.size() || num_bytes > data_.size() - offset) {
      return bad(absl::StrCat("reaches beyond the data file of ", data_.size(), " bytes"));
    }
    array.values.resize(num_values);
    std::memcpy(array.values.data(), data_.data() + offset, num_bytes);
    return array;
  } catch (const nlohmann::json::exception& e) {
    return bad(e.what());
  }
}

absl::StatusOr<Array<float>> GoldenFile::F32(const nlohmann::json& entry) const {
  return Read<float>(entry, "F32");
}

absl::StatusOr<Array<int32_t>> GoldenFile::I32(const nlohmann::json& entry) const {
  return Read<int32_t>(entry, "I32");
}

}  // namespace orrery
