// What gpu_check was asked for.
#ifndef ORRERY_TESTS_GPU_CHECK_OPTIONS_H_
#define ORRERY_TESTS_GPU_CHECK_OPTIONS_H_

#include <string>

#include "absl/time/time.h"

namespace orrery {

struct GpuCheckOptions {
  std::string golden_dir;  // of golden folders; empty: none are checked
  std::string model_dir;   // with its eval.jsonl; empty: no model is run
  int max_problems = 0;    // of the model; 0: all
  // Sizes that a stand-in for a GPU can do, or compute-sanitizer, instead of those of DeepSeek-R1.
  bool is_small = false;
  std::string preset;  // of the benchmarks
  std::string filter;
  absl::Duration min_time;
  std::string json_file;          // for the benchmarks' rows; empty: none
  std::string compute_sanitizer;  // the program's path
  std::string work_dir;           // for what parts write and remove again: a model of 12 GB
};

}  // namespace orrery

#endif  // ORRERY_TESTS_GPU_CHECK_OPTIONS_H_
