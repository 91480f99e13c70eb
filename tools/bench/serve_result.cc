#include "tools/bench/serve_result.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

namespace orrery {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kBenchmark[] = "orrery bench serve";
constexpr int kFormat = 1;

Json ToJson(const Summary& summary) {
  return {{"count", summary.count}, {"mean", summary.mean}, {"median", summary.median},
          {"p90", summary.p90},     {"p99", summary.p99},   {"max", summary.max}};
}

Json ToJson(const Figures& figures) {
  return {{"requests", figures.num_requests},
          {"ok", figures.num_ok},
          {"cut", figures.num_cut},
          {"unsent", figures.num_unsent},
          {"errors", figures.num_errors},
          {"first_error", figures.first_error},
          {"requests_per_s", figures.requests_per_s},
          {"input_tokens_per_s", figures.input_tokens_per_s},
          {"output_tokens_per_s", figures.output_tokens_per_s},
          {"ttft_ms", ToJson(figures.ttft_ms)},
          {"tpot_ms", ToJson(figures.tpot_ms)},
          {"itl_ms", ToJson(figures.itl_ms)},
          {"e2e_ms", ToJson(figures.e2e_ms)},
          {"start_delay_ms", ToJson(figures.start_delay_ms)},
          {"cached_prompt_share", figures.cached_prompt_share},
          {"draft_acceptance", figures.draft_acceptance}};
}

Json ToJson(const Load& load) {
  Json json;
  if (load.is_open()) {
    json["rate"] = load.rate;
    json["arrivals"] = load.arrivals == Arrivals::kPoisson ? "poisson" : "regular";
    json["max_concurrency"] = load.max_concurrency;
  } else {
    json["concurrency"] = load.concurrency;
  }
  json["prompt_tokens"] = load.prompt_tokens.ToString();
  json["output_tokens"] = load.output_tokens.ToString();
  json["prefix_tokens"] = load.prefix_tokens;
  json["num_prefixes"] = load.num_prefixes;
  json["priority"] = load.priority;
  if (load.disconnect_within > absl::ZeroDuration()) {
    json["disconnect_within_s"] = absl::ToDoubleSeconds(load.disconnect_within);
    json["reads"] = load.reads;
  }
  return json;
}

Json ToJson(const PhaseResult& result) {
  Json loads = Json::array();
  for (size_t i = 0; i < result.figures.size(); ++i) {
    const Load& load = result.phase.loads[i];
    loads.push_back({{"tenant", load.tenant},
                     {"parameters", ToJson(load)},
                     {"figures", ToJson(result.figures[i])}});
  }
  return {{"name", result.phase.name},
          {"seed", result.phase.seed},
          {"warmup_s", absl::ToDoubleSeconds(result.phase.warmup)},
          {"window_s", result.record.window.seconds()},
          {"generator_cpu_cores", result.generator_cpu_cores},
          {"cluster_cpu_cores", result.cluster_cpu_cores},
          {"counters", result.counters},
          {"loads", loads},
          {"total", ToJson(result.total)}};
}

Json ToJson(const v1::MemberStatus& member) {
  return {{"name", member.name()},
          {"role", member.role()},
          {"backend", member.backend()},
          {"numerics_id", member.numerics_id()},
          {"fingerprint", member.fingerprint()}};
}

// Adds the numbers of a tree under names joined by dots.
void Flatten(const std::string& name, const Json& json, FlatFigures& figures) {
  if (json.is_number()) figures[name] = json.get<double>();
  if (!json.is_object()) return;
  for (const auto& [key, value] : json.items())
    Flatten(absl::StrCat(name, ".", key), value, figures);
}

void FlattenObject(const std::string& name, const Json& json, FlatFigures& figures) {
  for (const auto& [key, value] : json.items()) {
    Flatten(absl::StrCat(name, " / ", key), value, figures);
  }
}

FlatFigures FiguresOfFile(const Json& file) {
  FlatFigures figures;
  for (const Json& phase : file.at("phases")) {
    const std::string name = phase.at("name").get<std::string>();
    const Json& loads = phase.at("loads");
    for (const Json& load : loads) {
      const std::string tenant = load.at("tenant").get<std::string>();
      FlattenObject(absl::StrCat(name, tenant.empty() ? "" : " / ", tenant), load.at("figures"),
                    figures);
    }
    if (loads.size() > 1) FlattenObject(absl::StrCat(name, " / total"), phase.at("total"), figures);
    Flatten(absl::StrCat(name, " / generator_cpu_cores"), phase.at("generator_cpu_cores"), figures);
  }
  for (const Json& finding : file.at("findings")) {
    Flatten(absl::StrCat("finding / ", finding.at("what").get<std::string>()), finding.at("value"),
            figures);
  }
  return figures;
}

}  // namespace

bool ServeResult::held() const {
  return std::all_of(findings.begin(), findings.end(),
                     [](const Finding& finding) { return finding.held; });
}

std::string ToJson(const ServeResult& result) {
  Json definitions, phases = Json::array(), members = Json::array(), findings = Json::array();
  for (const FigureText& text : FigureDefinitions()) definitions[text.name] = text.text;
  for (const PhaseResult& phase : result.phases) phases.push_back(ToJson(phase));
  for (const v1::MemberStatus& member : result.members) members.push_back(ToJson(member));
  for (const Finding& finding : result.findings) {
    findings.push_back({{"what", finding.what},
                        {"value", finding.value},
                        {"target", finding.target},
                        {"held", finding.held}});
  }
  const Json json = {{"benchmark", kBenchmark},
                     {"format", kFormat},
                     {"command", result.command},
                     {"seed", result.seed},
                     {"model",
                      {{"name", result.model.name()},
                       {"max_context_tokens", result.model.max_context_tokens()},
                       {"vocab_size", result.model.vocab_size()}}},
                     {"members", members},
                     {"definitions", definitions},
                     {"phases", phases},
                     {"findings", findings}};
  // A command line may hold any bytes.
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<FlatFigures> ReadFigures(const std::string& json) {
  try {
    const Json file = Json::parse(json);
    if (file.at("benchmark") != kBenchmark || file.at("format") != kFormat) {
      return absl::InvalidArgumentError(
          absl::StrCat("not a result of `", kBenchmark, "` in format ", kFormat));
    }
    return FiguresOfFile(file);
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a result of `", kBenchmark, "`: ", error.what()));
  }
}

std::string CompareText(const FlatFigures& old_figures, const FlatFigures& new_figures) {
  std::string text = absl::StrFormat("%-56s %12s %12s %9s\n", "figure", "old", "new", "old/new");
  int num_common = 0;
  for (const auto& [name, new_value] : new_figures) {
    const auto old_value = old_figures.find(name);
    if (old_value == old_figures.end()) continue;
    ++num_common;
    if (old_value->second == 0.0 && new_value == 0.0) continue;
    absl::StrAppendFormat(&text, "%-56s %12.6g %12.6g ", name, old_value->second, new_value);
    text += new_value == 0.0 ? absl::StrFormat("%9s\n", "-")
                             : absl::StrFormat("%9.3f\n", old_value->second / new_value);
  }
  if (num_common == 0) text += "no figure is in both: phases and tenants have other names\n";
  return text;
}

}  // namespace orrery
