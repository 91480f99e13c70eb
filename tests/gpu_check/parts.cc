#include "tests/gpu_check/parts.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/gpu_check/part_report.h"

namespace orrery {
namespace {

class FunctionTest : public testing::Test {
 public:
  explicit FunctionTest(std::function<void()> body) : body_(std::move(body)) {}
  void TestBody() override { body_(); }

 private:
  std::function<void()> body_;
};

}  // namespace

void RegisterTest(const char* suite, const std::string& name, std::function<void()> body) {
  testing::RegisterTest(
      suite, name.c_str(), /*type_param=*/nullptr, /*value_param=*/nullptr, __FILE__, __LINE__,
      [body = std::move(body)]() -> testing::Test* { return new FunctionTest(body); });
}

// A property of the same key would take the place of the one before.
void Note(const std::string& text) {
  const testing::TestResult& result =
      *testing::UnitTest::GetInstance()->current_test_info()->result();
  testing::Test::RecordProperty(absl::StrCat(kNoteKey, result.test_property_count()), text);
}

}  // namespace orrery
