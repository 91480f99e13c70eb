// What `orrery bench serve` shows to people.
//
//   out.Print(PhaseText(result));
//   out.Print(FindingText(finding));
//
// Pure.
#ifndef ORRERY_TOOLS_BENCH_REPORT_H_
#define ORRERY_TOOLS_BENCH_REPORT_H_

#include <string>

#include "tools/bench/serve_result.h"

namespace orrery {

// All figures of a phase, per load, then processor time and counters.
std::string PhaseText(const PhaseResult& result);
// One line per load, for scenarios of many phases.
std::string PhaseLine(const PhaseResult& result);
std::string PhaseLineLegend();
std::string FindingText(const Finding& finding);
std::string DefinitionsText();

// "closed loop, 4 at a time, prompts of 256 tokens, answers of 64".
std::string Describe(const Load& load);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_REPORT_H_
