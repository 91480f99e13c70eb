#include "checkpoint/test_files.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "checkpoint/file.h"
#include "gtest/gtest.h"

namespace orrery {

std::string GoldenDir(std::string_view name) {
  return absl::StrCat("tests/data/golden/", std::string(name));
}

std::vector<std::string> GoldenModels() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("tests/data/golden")) {
    if (FileExists(entry.path() / "config.json")) names.push_back(entry.path().filename());
  }
  return names;
}

std::string ReadTextFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, kMaxTokenizerBytes);
  ORRERY_CHECK(text.ok()) << text.status().ToString();
  return *std::move(text);
}

Json ReadJsonFile(const std::string& path) {
  absl::StatusOr<Json> json = ParseJson(ReadTextFile(path), path);
  ORRERY_CHECK(json.ok()) << json.status().ToString();
  return *std::move(json);
}

std::string MakeTempDir() {
  std::string pattern = absl::StrCat(testing::TempDir(), "/orrery_XXXXXX");
  const char* dir = mkdtemp(pattern.data());
  ORRERY_CHECK(dir != nullptr) << pattern;
  return dir;
}

std::string WriteTempFile(const std::string& dir, std::string_view name, std::string_view content) {
  const std::string path = JoinPath(dir, name);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  ORRERY_CHECK(file.good()) << path;
  return path;
}

std::string SafetensorsBytes(std::string_view header, std::string_view data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes.push_back(static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i)));
  }
  bytes.append(header);
  bytes.append(data);
  return bytes;
}

}  // namespace orrery
