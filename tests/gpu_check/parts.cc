#include "tests/gpu_check/parts.h"

#include <gtest/gtest.h>

#include <utility>

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

void Note(const std::string& text) { testing::Test::RecordProperty(kNoteKey, text); }

}  // namespace orrery
