#include "tools/bench/report.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace orrery {
namespace {

std::string SummaryLine(const std::string& name, const Summary& summary) {
  return absl::StrFormat("  %-15s %10.2f %10.2f %10.2f %10.2f %10.2f %9d\n", name, summary.mean,
                         summary.median, summary.p90, summary.p99, summary.max, summary.count);
}

// "16.2 / 34.7".
std::string MedianAndP99(const Summary& summary) {
  if (summary.count == 0) return "-";
  return absl::StrFormat("%.1f / %.1f", summary.median, summary.p99);
}

// "400 requests: 390 ok, 10 RESOURCE_EXHAUSTED".
std::string CountsText(const Figures& figures) {
  if (figures.num_requests + figures.num_unsent == 0) return "no request began";
  std::string text = absl::StrCat(figures.num_requests, " requests: ", figures.num_ok, " ok");
  for (const auto& [code, count] : figures.num_errors) {
    absl::StrAppend(&text, ", ", count, " ", code);
  }
  if (figures.num_cut > 0) absl::StrAppend(&text, ", ", figures.num_cut, " cut");
  if (figures.num_unsent > 0) absl::StrAppend(&text, "; ", figures.num_unsent, " unsent");
  return text;
}

std::string FiguresText(const Figures& figures) {
  std::string text = absl::StrCat("  ", CountsText(figures), "\n");
  if (!figures.first_error.empty()) {
    absl::StrAppend(&text, "  first error: ", figures.first_error, "\n");
  }
  absl::StrAppendFormat(&text, "  per second: %.2f requests, %.1f tokens in, %.1f tokens out\n",
                        figures.requests_per_s, figures.input_tokens_per_s,
                        figures.output_tokens_per_s);
  absl::StrAppendFormat(&text, "  from the prefix cache: %.1f %% of the prompt tokens\n",
                        100.0 * figures.cached_prompt_share);
  if (figures.draft_acceptance > 0.0) {
    absl::StrAppendFormat(&text, "  drafts: %.1f %% right\n", 100.0 * figures.draft_acceptance);
  }
  absl::StrAppendFormat(&text, "  %-15s %10s %10s %10s %10s %10s %9s\n", "ms", "mean", "median",
                        "p90", "p99", "max", "count");
  return absl::StrCat(text, SummaryLine("TTFT", figures.ttft_ms),
                      SummaryLine("TPOT", figures.tpot_ms), SummaryLine("ITL", figures.itl_ms),
                      SummaryLine("latency", figures.e2e_ms),
                      SummaryLine("start delay", figures.start_delay_ms));
}

std::string CpuText(const PhaseResult& result) {
  std::string text = absl::StrFormat("cores used: generator %.2f", result.generator_cpu_cores);
  for (const auto& [name, cores] : result.cluster_cpu_cores) {
    absl::StrAppendFormat(&text, ", %s %.2f", name, cores);
  }
  return text + "\n";
}

std::string CountersText(const Counters& counters) {
  std::string text = "cluster:";
  const char* separator = " ";
  for (const auto& [name, value] : counters) {
    absl::StrAppend(&text, separator, name, " ", value);
    separator = ", ";
  }
  return text + "\n";
}

}  // namespace

std::string PhaseText(const PhaseResult& result) {
  std::string text = absl::StrFormat("%s: %.1f s measured after %.1f s of warm-up, seed %d\n",
                                     result.phase.name, result.record.window.seconds(),
                                     absl::ToDoubleSeconds(result.phase.warmup), result.phase.seed);
  for (size_t i = 0; i < result.figures.size(); ++i) {
    absl::StrAppend(&text, "\n", Describe(result.phase.loads[i]), "\n",
                    FiguresText(result.figures[i]));
  }
  if (result.figures.size() > 1)
    absl::StrAppend(&text, "\nall together\n", FiguresText(result.total));
  return absl::StrCat(text, "\n", CpuText(result), CountersText(result.counters));
}

std::string PhaseLine(const PhaseResult& result) {
  std::string text;
  for (size_t i = 0; i < result.figures.size(); ++i) {
    const Figures& figures = result.figures[i];
    const std::string& tenant = result.phase.loads[i].tenant;
    absl::StrAppendFormat(&text, "%-34s %8.1f tokens/s out, TTFT %s, ITL %s; %s\n",
                          absl::StrCat(result.phase.name, tenant.empty() ? "" : ": ", tenant),
                          figures.output_tokens_per_s, MedianAndP99(figures.ttft_ms),
                          MedianAndP99(figures.itl_ms), CountsText(figures));
  }
  return text;
}

std::string PhaseLineLegend() { return "TTFT and ITL: median / p99 in ms\n"; }

std::string FindingText(const Finding& finding) {
  const std::string value = finding.value == std::floor(finding.value)
                                ? absl::StrFormat("%.0f", finding.value)  // counts in full
                                : absl::StrFormat("%.4g", finding.value);
  if (finding.target.empty()) return absl::StrCat("        ", finding.what, ": ", value, "\n");
  return absl::StrCat(finding.held ? "held    " : "MISSED  ", finding.what, ": ", value,
                      " (target: ", finding.target, ")\n");
}

std::string DefinitionsText() {
  std::string text = "definitions\n";
  for (const FigureText& definition : FigureDefinitions()) {
    absl::StrAppendFormat(&text, "  %-20s %s\n", definition.name, definition.text);
  }
  return text;
}

std::string Describe(const Load& load) {
  std::string text = load.tenant.empty() ? "" : absl::StrCat("tenant ", load.tenant, ": ");
  if (load.is_open()) {
    absl::StrAppendFormat(&text, "open loop, %.4g requests/s (%s)", load.rate,
                          load.arrivals == Arrivals::kPoisson ? "Poisson" : "regular");
  } else {
    absl::StrAppend(&text, "closed loop, ", load.concurrency, " at a time");
  }
  absl::StrAppend(&text, ", prompts of ", load.prompt_tokens.ToString(), " tokens");
  if (load.prefix_tokens > 0) {
    absl::StrAppend(&text, " that begin with one of ", load.num_prefixes, " prefixes of ",
                    load.prefix_tokens);
  }
  return absl::StrCat(text, ", answers of ", load.output_tokens.ToString());
}

}  // namespace orrery
