// For the tests of this folder: where their data is, and files made on the spot.
#ifndef ORRERY_CHECKPOINT_TEST_FILES_H_
#define ORRERY_CHECKPOINT_TEST_FILES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/json.h"

namespace orrery {

// Directories of the repository, as a test sees them.
std::string GoldenDir(std::string_view name);
inline constexpr char kAbacusDir[] = "models/abacus";
// Names of the golden directories that are model checkpoints.
std::vector<std::string> GoldenModels();

// Reads a JSON file that has to be right.
Json ReadJsonFile(const std::string& path);
// The text of a file that has to be there.
std::string ReadTextFile(const std::string& path);

// A fresh directory for this test.
std::string MakeTempDir();
// Writes DIR/NAME and returns its path.
std::string WriteTempFile(const std::string& dir, std::string_view name, std::string_view content);

// The bytes of a safetensors file with this header and data.
std::string SafetensorsBytes(std::string_view header, std::string_view data);

// The bytes of a value as they stand in a file.
template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_TEST_FILES_H_
