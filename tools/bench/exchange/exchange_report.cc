#include "tools/bench/exchange/exchange_report.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "tools/bench/kernels/machine/machine_facts.h"

namespace orrery {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kBenchmark[] = "orrery bench exchange";
constexpr int kFormat = 1;

struct Definition {
  const char* name;
  const char* text;
};

constexpr Definition kDefinitions[] = {
    {"exchange",
     "a rank's Dispatch and Combine of one layer with one shard, which answers at once; median of "
     "the rounds' medians, and the fastest and slowest round"},
    {"way",
     "grpc-tcp, grpc-tls (TCP with mutual TLS), grpc-unix, shm: to a shard in another process; "
     "loopback: to a "
     "thread of this one"},
    {"bare",
     "byte buffers of the same sizes there and back on an open stream over the same kind of socket "
     "to the same process, nothing behind it; several frames one after the other"},
    {"x bare", "exchange over bare, both of the same round; median of the rounds"},
    {"x shm", "exchange over that of shared memory, both of the same round; median of the rounds"},
    {"x tcp", "with TLS: exchange over that of grpc-tcp, likewise"},
};

std::string Optional(const std::optional<double>& value, const char* format) {
  return value.has_value() ? absl::StrFormat(*absl::ParsedFormat<'f'>::New(format), *value) : "-";
}

Json ToJson(const std::optional<double>& value) {
  return value.has_value() ? Json(*value) : Json(nullptr);
}

}  // namespace

std::string ExchangeHeadText(const std::string& command, const ExchangeShape& shape) {
  const MachineFacts machine = ReadMachineFacts("/");
  return absl::StrFormat(
      "%s\n%s, %d cores, load average %.1f; rows of %d bytes to %d experts of one shard, results "
      "of "
      "%d bytes\n\n%-10s %5s %9s %9s  %11s %21s %9s %7s %7s %7s\n",
      command, machine.processor, machine.num_cores, machine.load_average, shape.row_bytes,
      shape.topk, shape.result_bytes, "way", "rows", "out B", "back B", "exchange us",
      "(min to max)", "bare us", "x bare", "x shm", "x tcp");
}

std::string ExchangeRowText(const ExchangeFigures& figures) {
  return absl::StrFormat("%-10s %5d %9d %9d  %11.1f %21s %9s %7s %7s %7s\n", figures.way,
                         figures.num_rows, figures.bytes_out, figures.bytes_back,
                         figures.exchange_us,
                         absl::StrFormat("(%.1f to %.1f)", figures.fastest_us, figures.slowest_us),
                         Optional(figures.bare_us, "%.1f"), Optional(figures.ratio, "%.2f"),
                         Optional(figures.over_shm, "%.2f"), Optional(figures.over_tcp, "%.2f"));
}

std::string ExchangeEndText(const ExchangeBenchResult& result) {
  std::string text = "\n";
  for (const Definition& definition : kDefinitions) {
    absl::StrAppendFormat(&text, "%-9s %s\n", definition.name, definition.text);
  }
  text += "\n";
  for (const ExchangeTarget& target : result.targets) {
    absl::StrAppendFormat(&text, "%s  %.2f  %s\n", target.held ? "held  " : "MISSED", target.value,
                          target.text);
  }
  return text;
}

std::string ExchangeJson(const std::string& command, const ExchangeShape& shape,
                         const ExchangeBenchResult& result) {
  const MachineFacts machine = ReadMachineFacts("/");
  Json definitions, rows = Json::array(), targets = Json::array();
  for (const Definition& definition : kDefinitions) definitions[definition.name] = definition.text;
  for (const ExchangeFigures& figures : result.figures) {
    rows.push_back({{"way", figures.way},
                    {"rows", figures.num_rows},
                    {"bytes_out", figures.bytes_out},
                    {"bytes_back", figures.bytes_back},
                    {"exchange_us",
                     {{"median", figures.exchange_us},
                      {"min", figures.fastest_us},
                      {"max", figures.slowest_us}}},
                    {"bare_us", ToJson(figures.bare_us)},
                    {"over_bare", ToJson(figures.ratio)},
                    {"over_shm", ToJson(figures.over_shm)},
                    {"over_tcp", ToJson(figures.over_tcp)}});
  }
  for (const ExchangeTarget& target : result.targets) {
    targets.push_back({{"text", target.text}, {"value", target.value}, {"held", target.held}});
  }
  const Json json = {{"benchmark", kBenchmark},
                     {"format", kFormat},
                     {"command", command},
                     {"machine",
                      {{"processor", machine.processor},
                       {"cores", machine.num_cores},
                       {"load_average", machine.load_average}}},
                     {"row_bytes", shape.row_bytes},
                     {"result_bytes", shape.result_bytes},
                     {"topk", shape.topk},
                     {"definitions", definitions},
                     {"rows", rows},
                     {"targets", targets}};
  // A command line may hold any bytes.
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

}  // namespace orrery
