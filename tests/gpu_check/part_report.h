// What a part tells the process that started it: a line when a test begins and when it ends, so that the one in which a
// process died is known.
//
//   testing::UnitTest::GetInstance()->listeners().Append(new PartReporter(path));    // in the part's process
//   PartResult result = ReadPartReport(text);                                        // in the other
//
//   B Attention.TakesNoRows/cuda
//   P Attention.TakesNoRows/cuda
//   S Nccl.OneRank          libnccl.so.2 cannot be loaded: ...
//   N copy 4012.3 GB/s
#ifndef ORRERY_TESTS_GPU_CHECK_PART_REPORT_H_
#define ORRERY_TESTS_GPU_CHECK_PART_REPORT_H_

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace orrery {

// With this the keys of properties begin that are notes.
inline constexpr char kNoteKey[] = "note";

struct PartResult {
  std::string name = {};
  int num_passed = 0;
  int num_skipped = 0;
  std::vector<std::string> failed = {};   // names of tests
  std::vector<std::string> skipped = {};  // reasons, each once
  std::vector<std::string> notes = {};
  std::string running = {};  // the test that has begun and not ended; empty: none
  double seconds = 0.0;
};

PartResult ReadPartReport(std::string_view text);

class PartReporter : public testing::EmptyTestEventListener {
 public:
  explicit PartReporter(const std::string& path) : out_(path) {}
  void OnTestStart(const testing::TestInfo& test) override;
  void OnTestEnd(const testing::TestInfo& test) override;

 private:
  void Say(char kind, const std::string& text);
  std::ofstream out_;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_GPU_CHECK_PART_REPORT_H_
