// A run of `orrery bench model` as people read it, and as JSON.
#ifndef ORRERY_TOOLS_BENCH_MODEL_MODEL_REPORT_H_
#define ORRERY_TOOLS_BENCH_MODEL_MODEL_REPORT_H_

#include <string>
#include <vector>

#include "tools/bench/model/model_bench.h"
#include "tools/bench/serve_result.h"

namespace orrery {

// What BENCHMARKS.md aims at, as far as this run measured it.
std::vector<Finding> ModelFindings(const ModelBenchResult& result);
std::string ModelText(const ModelBenchResult& result);
std::string ModelJson(const ModelBenchResult& result);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_MODEL_MODEL_REPORT_H_
