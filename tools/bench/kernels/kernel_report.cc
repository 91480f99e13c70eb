#include "tools/bench/kernels/kernel_report.h"

#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace orrery {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kBenchmark[] = "orrery bench kernels";
constexpr int kFormat = 2;
constexpr double kGiga = 1e9;
constexpr double kMega = 1e6;

const Definition kDefinitions[] = {
    {"operation",
     "a call of the kernels: some experts (as the shape says), one matrix, one layer's attention; "
     "rows are per expert"},
    {"format",
     "of what comes from memory: weights, cached rows, encoded rows; activations are f32"},
    {"time", "of one call: median of the rounds, and the fastest and slowest round"},
    {"GFLOP/s", "products and additions of the sums over the median time; of nothing else"},
    {"bound",
     "the ceiling that takes longer: memory (bytes / memory's bandwidth) or compute (flops / "
     "peak)"},
    {"share", "the bound's time over ours, both of the same round; median of the rounds"},
    {"x peer",
     "the peer's time over ours, both of the same round, median: above 1 ours is faster; of a "
     "feed-forward the peer does the three products, and no SiLU, no rounding"},
};

// Those of every target, then the target's own.
std::vector<Definition> DefinitionsOf(const KernelBenchResult& result) {
  std::vector<Definition> all(std::begin(kDefinitions), std::end(kDefinitions));
  all.insert(all.end(), result.target.definitions.begin(), result.target.definitions.end());
  return all;
}

// "20.5 (19.0 to 21.1)"
std::string GigaText(const Spread& spread) {
  return absl::StrFormat("%.1f (%.1f to %.1f)", spread.median / kGiga, spread.min / kGiga,
                         spread.max / kGiga);
}

std::string CeilingText(const TargetFacts& target, const CeilingFigures& ceiling) {
  return absl::StrFormat(
      "  %-10s %s %s GB/s, %s %s\n", absl::StrCat(ceiling.name, ":"), target.memory_ceiling,
      GigaText(ceiling.bytes_per_s), target.compute_ceiling,
      ceiling.flops_per_s.median > 0.0 ? absl::StrCat(GigaText(ceiling.flops_per_s), " GFLOP/s")
                                       : "not known");
}

std::string PeerText(const TargetFacts& target) {
  return target.peer_version.empty() ? "none" : target.peer_version;
}

Json ToJson(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

Json ToJson(const Ceilings& ceilings) {
  return {{"bytes_per_s", ceilings.bytes_per_s}, {"flops_per_s", ceilings.flops_per_s}};
}

Json ToJson(const CeilingFigures& ceiling) {
  return {{"name", ceiling.name},
          {"bytes_per_s", ToJson(ceiling.bytes_per_s)},
          {"flops_per_s", ToJson(ceiling.flops_per_s)}};
}

Json ToJson(const KernelFigures& figures) {
  Json json = {{"name", figures.what.name()},
               {"operation", figures.what.operation},
               {"format", figures.what.format},
               {"rows", figures.what.num_rows},
               {"shape", figures.what.shape},
               {"bytes", figures.work.bytes},
               {"flops", figures.work.flops},
               {"rounds", figures.num_rounds},
               {"seconds", ToJson(figures.seconds)},
               {"bytes_per_s", figures.bytes_per_s},
               {"flops_per_s", figures.flops_per_s},
               {"ceilings", ToJson(figures.ceilings)},
               {"bound", std::string(BoundName(figures.bound))},
               {"share", ToJson(figures.share)},
               {"peer", nullptr}};
  if (figures.peer_ratio.has_value()) {
    json["peer"] = {{"seconds", ToJson(*figures.peer_seconds)},
                    {"ratio", ToJson(*figures.peer_ratio)}};
  }
  return json;
}

}  // namespace

std::string KernelHeadText(const KernelBenchResult& result) {
  const TargetFacts& target = result.target;
  std::string text = absl::StrFormat("%s\n%s; kernels %s, %s\n", result.command, target.device,
                                     result.family, result.variant);
  absl::StrAppendFormat(&text, "preset %s, working set %.0f MiB, peer %s, ceilings %s and %s\n",
                        result.preset, target.working_set_bytes / 0x1p20, PeerText(target),
                        target.memory_ceiling, target.compute_ceiling);
  if (target.working_set_bytes <= 2 * target.cache_bytes) {
    text += "NOTE: the working set is not over twice the last-level cache: weights may be warm\n";
  }
  if (!result.note.empty()) absl::StrAppend(&text, "NOTE: ", result.note, "\n");
  for (const CeilingFigures& ceiling : result.ceilings) text += CeilingText(target, ceiling);
  const std::string peer = target.peer.empty() ? "peer" : target.peer;
  return absl::StrCat(
      text, absl::StrFormat("\n%-20s %-5s %5s  %-22s %10s %21s %7s %8s  %-8s %6s %9s\n",
                            "operation", "of", "rows", "shape", "time us", "(min to max)", "GB/s",
                            "GFLOP/s", "bound", "share", absl::StrCat("x ", peer)));
}

std::string KernelRowText(const KernelFigures& figures) {
  const std::string range =
      absl::StrFormat("(%.1f to %.1f)", figures.seconds.min * kMega, figures.seconds.max * kMega);
  return absl::StrFormat(
      "%-20s %-5s %5d  %-22s %10.1f %21s %7.2f %8s  %-8s %5.1f%% %9s\n", figures.what.operation,
      figures.what.format, figures.what.num_rows, figures.what.shape,
      figures.seconds.median * kMega, range, figures.bytes_per_s / kGiga,
      figures.work.flops > 0.0 ? absl::StrFormat("%.1f", figures.flops_per_s / kGiga) : "-",
      std::string(BoundName(figures.bound)), 100.0 * figures.share.median,
      figures.peer_ratio.has_value() ? absl::StrFormat("%.2f", figures.peer_ratio->median) : "-");
}

std::string KernelEndText(const KernelBenchResult& result) {
  std::string text = "\nceilings, before and after the table\n";
  for (const CeilingFigures& ceiling : result.ceilings) {
    text += CeilingText(result.target, ceiling);
  }
  if (!result.note.empty()) absl::StrAppend(&text, "\nnote: ", result.note, "\n");
  text += "\ndefinitions\n";
  for (const Definition& definition : DefinitionsOf(result)) {
    absl::StrAppendFormat(&text, "  %-16s %s\n", definition.name, definition.text);
  }
  return text;
}

std::string KernelJson(const KernelBenchResult& result) {
  const TargetFacts& target = result.target;
  Json definitions, ceilings = Json::array(), rows = Json::array();
  for (const Definition& definition : DefinitionsOf(result)) {
    definitions[definition.name] = definition.text;
  }
  for (const CeilingFigures& ceiling : result.ceilings) ceilings.push_back(ToJson(ceiling));
  for (const KernelFigures& figures : result.figures) rows.push_back(ToJson(figures));
  const Json json = {{"benchmark", kBenchmark},
                     {"format", kFormat},
                     {"command", result.command},
                     {"preset", result.preset},
                     {"family", result.family},
                     {"variant", result.variant},
                     {"device", target.device},
                     {"cache_bytes", target.cache_bytes},
                     {"working_set_bytes", target.working_set_bytes},
                     {"memory_ceiling", target.memory_ceiling},
                     {"compute_ceiling", target.compute_ceiling},
                     {"ceilings", ceilings},
                     {"peer", PeerText(target)},
                     {"note", result.note},
                     {"definitions", definitions},
                     {"rows", rows}};
  // A command line may hold any bytes.
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

}  // namespace orrery
