#include "tools/bench/kernels/kernel_report.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace orrery {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kBenchmark[] = "orrery bench kernels";
constexpr int kFormat = 1;
constexpr double kGiga = 1e9;
constexpr double kMega = 1e6;

struct Definition {
  const char* name;
  const char* text;
};

constexpr Definition kDefinitions[] = {
    {"operation",
     "a call of the kernels: some experts (as the shape says), one matrix, one layer's attention; "
     "rows are per expert"},
    {"format",
     "of what comes from memory: weights, cached rows, encoded rows; activations are f32"},
    {"time", "of one call: median of the rounds, and the fastest and slowest round"},
    {"cold",
     "calls go round the working set, so that what they read is in no cache; results go to one "
     "place"},
    {"GB/s",
     "bytes over the median time: packed weights with scales, the cache, or the rows, read once"},
    {"GFLOP/s", "products and additions of the sums over the median time; of nothing else"},
    {"bound",
     "the ceiling that takes longer: memory (bytes / read bandwidth) or compute (flops / peak)"},
    {"share", "the bound's time over ours, both of the same round; median of the rounds"},
    {"read ceiling",
     "every byte once, 8 streams of vector loads per thread, large pages where there are some"},
    {"compute ceiling",
     "the variant's multiply instruction on registers, as many threads as the kernels have"},
    {"x oneDNN",
     "oneDNN's time over ours, both of the same round, median: above 1 ours is faster; oneDNN "
     "multiplies bf16 (else see the note) in its own packed layout, also where ours are fp8, just "
     "as cold, in "
     "large pages, by "
     "as many threads; of a feed-forward it does the three products, and no SiLU, no rounding"},
};

std::string CeilingText(const MachineCeiling& ceiling) {
  return absl::StrFormat(
      "  %d %-8s read %6.1f GB/s (%.1f to %.1f), multiply %7.1f GFLOP/s (%.1f to %.1f)\n",
      ceiling.num_threads,
      ceiling.num_threads == 1 ? "thread:" : "threads:", ceiling.bytes_per_s.median / kGiga,
      ceiling.bytes_per_s.min / kGiga, ceiling.bytes_per_s.max / kGiga,
      ceiling.flops_per_s.median / kGiga, ceiling.flops_per_s.min / kGiga,
      ceiling.flops_per_s.max / kGiga);
}

Json ToJson(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

Json ToJson(const Ceilings& ceilings) {
  return {{"bytes_per_s", ceilings.bytes_per_s}, {"flops_per_s", ceilings.flops_per_s}};
}

Json ToJson(const MachineCeiling& ceiling) {
  return {{"threads", ceiling.num_threads},
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
  std::string text = absl::StrFormat(
      "%s\n%s, %d cores, last-level cache %.0f MiB, load average %.1f; kernels %s, %s, %d %s\n",
      result.command, result.machine.processor, result.machine.num_cores,
      result.machine.last_level_cache_bytes / 0x1p20, result.machine.load_average, result.family,
      result.variant, result.num_threads, result.num_threads == 1 ? "thread" : "threads");
  absl::StrAppendFormat(&text, "preset %s, working set %.0f MiB, peer %s, ceiling %s\n",
                        result.preset, result.working_set_bytes / 0x1p20, result.peer,
                        result.instruction);
  if (!IsCold(result.working_set_bytes, result.machine)) {
    text += "NOTE: the working set is not over twice the last-level cache: weights may be warm\n";
  }
  for (const MachineCeiling& ceiling : result.ceilings) text += CeilingText(ceiling);
  return absl::StrCat(
      text, absl::StrFormat("\n%-20s %-5s %5s  %-22s %10s %21s %7s %8s  %-8s %6s %9s\n",
                            "operation", "of", "rows", "shape", "time us", "(min to max)", "GB/s",
                            "GFLOP/s", "bound", "share", "x oneDNN"));
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
  for (const MachineCeiling& ceiling : result.ceilings) text += CeilingText(ceiling);
  if (!result.note.empty()) absl::StrAppend(&text, "\nnote: ", result.note, "\n");
  text += "\ndefinitions\n";
  for (const Definition& definition : kDefinitions) {
    absl::StrAppendFormat(&text, "  %-16s %s\n", definition.name, definition.text);
  }
  return text;
}

std::string KernelJson(const KernelBenchResult& result) {
  Json definitions, ceilings = Json::array(), rows = Json::array();
  for (const Definition& definition : kDefinitions) definitions[definition.name] = definition.text;
  for (const MachineCeiling& ceiling : result.ceilings) ceilings.push_back(ToJson(ceiling));
  for (const KernelFigures& figures : result.figures) rows.push_back(ToJson(figures));
  const Json json = {{"benchmark", kBenchmark},
                     {"format", kFormat},
                     {"command", result.command},
                     {"preset", result.preset},
                     {"family", result.family},
                     {"variant", result.variant},
                     {"threads", result.num_threads},
                     {"working_set_bytes", result.working_set_bytes},
                     {"machine",
                      {{"processor", result.machine.processor},
                       {"cores", result.machine.num_cores},
                       {"last_level_cache_bytes", result.machine.last_level_cache_bytes},
                       {"available_memory_bytes", result.machine.available_memory_bytes},
                       {"load_average", result.machine.load_average}}},
                     {"instruction", result.instruction},
                     {"ceilings", ceilings},
                     {"peer", result.peer},
                     {"note", result.note},
                     {"definitions", definitions},
                     {"rows", rows}};
  // A command line may hold any bytes.
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

}  // namespace orrery
