#include "tools/bench/model/model_report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace orrery {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
// The targets.
constexpr double kDecodeShare = 0.75;
constexpr double kPrefillShare = 0.65;
constexpr double kExchangeRatio = 0.95;

constexpr char kDefinitions[] =
    "definitions\n"
    "  decode     so many sequences, one token each: from one token of a sequence to its next, "
    "sampling\n"
    "             and all, in one process with one rank and one shard; median of the steps, then "
    "of the\n"
    "             rounds\n"
    "  prefill    a prompt that is computed in one step: from request to first token\n"
    "  least      the sum over the operations of the step of max(bytes / read bandwidth, flops / "
    "multiply\n"
    "             peak), both measured in the same round with as many threads; bytes: weights read "
    "once,\n"
    "             experts as many as rows are expected to visit, cached keys and values\n"
    "  share      least over ours, of the same round; median of the rounds\n";

Finding AtLeast(std::string what, double value, double target) {
  return {.what = std::move(what),
          .value = value,
          .target = absl::StrFormat("at least %.2f", target),
          .held = value >= target};
}

Json ToJson(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

}  // namespace

std::vector<Finding> ModelFindings(const ModelBenchResult& result) {
  std::vector<Finding> findings;
  for (const ModelFigures& figures : result.figures) {
    if (figures.phase == "decode" && figures.num_rows == 1) {
      findings.push_back(AtLeast("decode of 1 sequence, share of its roofline",
                                 figures.share.median, kDecodeShare));
    } else if (figures.phase == "prefill") {
      findings.push_back(
          AtLeast(absl::StrCat("prefill of ", figures.num_rows, " tokens, share of its roofline"),
                  figures.share.median, kPrefillShare));
    }
  }
  if (result.exchange_batch > 0) {
    findings.push_back(AtLeast(
        absl::StrCat("decode of ", result.exchange_batch,
                     " sequences by a rank and two shards: speed as processes over in one process"),
        result.loopback_over_processes.median, kExchangeRatio));
  }
  return findings;
}

std::string ModelText(const ModelBenchResult& result) {
  std::string text = absl::StrFormat(
      "\nceilings, %d %s: read %.1f GB/s (%.1f to %.1f), multiply %.0f GFLOP/s (%.0f to %.0f)\n"
      "memory of this process at most %.1f GiB, mapped files included\n\n",
      result.num_threads, result.num_threads == 1 ? "thread" : "threads",
      result.bytes_per_s.median / 1e9, result.bytes_per_s.min / 1e9, result.bytes_per_s.max / 1e9,
      result.flops_per_s.median / 1e9, result.flops_per_s.min / 1e9, result.flops_per_s.max / 1e9,
      result.peak_bytes / 0x1p30);
  absl::StrAppendFormat(&text, "%-8s %6s %11s %19s %9s %8s %9s %9s %7s\n", "phase", "rows",
                        "step ms", "(min to max)", "rows/s", "GB/s", "GFLOP/s", "least ms",
                        "share");
  for (const ModelFigures& figures : result.figures) {
    const double seconds = figures.seconds.median;
    absl::StrAppendFormat(
        &text, "%-8s %6d %11.2f %19s %9.1f %8.2f %9.1f %9.2f %6.1f%%\n", figures.phase,
        figures.num_rows, 1e3 * seconds,
        absl::StrFormat("(%.2f to %.2f)", 1e3 * figures.seconds.min, 1e3 * figures.seconds.max),
        figures.num_rows / seconds, figures.bytes / seconds / 1e9, figures.flops / seconds / 1e9,
        1e3 * figures.least_seconds, 100.0 * figures.share.median);
  }
  if (result.exchange_batch > 0) {
    absl::StrAppendFormat(&text,
                          "\n1 rank + 2 shards, %d sequences: seconds per step in one process over "
                          "those as processes: %.3f (%.3f to %.3f)\n",
                          result.exchange_batch, result.loopback_over_processes.median,
                          result.loopback_over_processes.min, result.loopback_over_processes.max);
  }
  return absl::StrCat(text, "\n", kDefinitions);
}

std::string ModelJson(const ModelBenchResult& result) {
  Json rows = Json::array();
  for (const ModelFigures& figures : result.figures) {
    rows.push_back({{"phase", figures.phase},
                    {"rows", figures.num_rows},
                    {"seconds", ToJson(figures.seconds)},
                    {"least_seconds", figures.least_seconds},
                    {"bytes", figures.bytes},
                    {"flops", figures.flops},
                    {"share", ToJson(figures.share)}});
  }
  Json findings = Json::array();
  for (const Finding& finding : ModelFindings(result)) {
    findings.push_back({{"what", finding.what},
                        {"value", finding.value},
                        {"target", finding.target},
                        {"held", finding.held}});
  }
  const Json json = {{"benchmark", "orrery bench model"},
                     {"format", kFormat},
                     {"command", result.command},
                     {"model_dir", result.model_dir},
                     {"cluster", result.cluster},
                     {"threads", result.num_threads},
                     {"processor", result.machine.processor},
                     {"load_average", result.machine.load_average},
                     {"bytes_per_s", ToJson(result.bytes_per_s)},
                     {"flops_per_s", ToJson(result.flops_per_s)},
                     {"peak_bytes", result.peak_bytes},
                     {"rows", rows},
                     {"exchange_batch", result.exchange_batch},
                     {"loopback_over_processes", ToJson(result.loopback_over_processes)},
                     {"findings", findings}};
  // A command line may hold any bytes.
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

}  // namespace orrery
