// One golden folder: golden.json and the arrays in its data file.
//
//   ASSIGN_OR_RETURN(GoldenFile golden, GoldenFile::Open(dir));
//   ASSIGN_OR_RETURN(Array<float> logits, golden.F32(golden.json()["logits"]));
#ifndef ORRERY_TOOLS_CHECK_GOLDEN_FILE_H_
#define ORRERY_TOOLS_CHECK_GOLDEN_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "nlohmann/json.hpp"

namespace orrery {

// Row major values with their shape.
template <typename T>
struct Array {
  std::vector<int64_t> shape;
  std::vector<T> values;
};

class GoldenFile {
 public:
  // Reads DIR/golden.json and the data file it names, if any.
  static absl::StatusOr<GoldenFile> Open(const std::string& dir);

  const std::string& dir() const { return dir_; }
  const nlohmann::json& json() const { return json_; }
  // The array that an entry {dtype, shape, offset, nbytes} describes. INVALID_ARGUMENT if it does
  // not.
  absl::StatusOr<Array<float>> F32(const nlohmann::json& entry) const;
  absl::StatusOr<Array<int32_t>> I32(const nlohmann::json& entry) const;

 private:
  template <typename T>
  absl::StatusOr<Array<T>> Read(const nlohmann::json& entry, const std::string& dtype) const;

  std::string dir_;
  nlohmann::json json_;
  std::string data_;
};

// The whole file. NOT_FOUND with its path.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_GOLDEN_FILE_H_
