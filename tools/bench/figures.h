// What a load test reports, computed from the record of a phase.
//
//   Figures figures = FiguresOf(record.loads[0], record.window);
//   figures.ttft_ms.p99
//   for (const FigureText& text : FigureDefinitions()) ...
//
// Definitions are those of FigureDefinitions(), which every report prints; TTFT, TPOT and ITL are
// defined as vLLM's `bench serve` does, except that time runs from the arrival: a request that the
// generator sends late has waited, and its latency says so.
//
// Pure.
#ifndef ORRERY_TOOLS_BENCH_FIGURES_H_
#define ORRERY_TOOLS_BENCH_FIGURES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tools/bench/phase.h"
#include "tools/bench/summary.h"

namespace orrery {

struct Figures {
  // Of the requests that arrived in the window.
  int64_t num_requests = 0;
  int64_t num_ok = 0;
  int64_t num_cut = 0;
  int64_t num_unsent = 0;
  std::map<std::string, int64_t> num_errors;  // by code
  std::string first_error;                    // "UNAVAILABLE: ..."; empty if there is none

  double requests_per_s = 0.0;
  double input_tokens_per_s = 0.0;
  double output_tokens_per_s = 0.0;

  Summary ttft_ms;
  Summary tpot_ms;
  Summary itl_ms;
  Summary e2e_ms;
  Summary start_delay_ms;

  // 0 to 1; 0 if there was nothing to share, or no draft.
  double cached_prompt_share = 0.0;
  double draft_acceptance = 0.0;
};

Figures FiguresOf(const LoadRecord& load, const Window& window);
// Of all loads together.
Figures FiguresOf(const std::vector<LoadRecord>& loads, const Window& window);

// For pooling over phases. A request that was cut off before its first token counts with the time
// that it had waited until the window ended: the least that it can have been. Otherwise the longest
// waits would be missing.
std::vector<double> TtftMs(const LoadRecord& load, const Window& window);

struct FigureText {
  std::string name;  // as in JSON
  std::string text;
};
const std::vector<FigureText>& FigureDefinitions();

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_FIGURES_H_
