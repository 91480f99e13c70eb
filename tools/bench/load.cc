#include "tools/bench/load.h"

#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace orrery {
namespace {

// More open calls than a machine that also runs the cluster can serve honestly.
constexpr int kMaxConcurrency = 4096;
// Of the tenant's name, as proto/orrery.proto has it.
constexpr size_t kMaxTenantBytes = 64;

absl::StatusOr<int> ParseInt(const std::string& text) {
  int value = 0;
  if (absl::SimpleAtoi(text, &value)) return value;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no whole number"));
}

absl::Status Set(const std::string& key, const std::string& value, Load& load) {
  if (key == "rate") {
    load.concurrency = 0;
    if (absl::SimpleAtod(value, &load.rate)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("\"", value, "\" is no number"));
  }
  if (key == "prompt" || key == "output") {
    TokenRange& range = key == "prompt" ? load.prompt_tokens : load.output_tokens;
    ASSIGN_OR_RETURN(range, ParseTokenRange(value));
    return absl::OkStatus();
  }
  if (key == "arrivals") {
    ASSIGN_OR_RETURN(load.arrivals, ParseArrivals(value));
    return absl::OkStatus();
  }
  const std::pair<const char*, int*> numbers[] = {{"concurrency", &load.concurrency},
                                                  {"prefix", &load.prefix_tokens},
                                                  {"prefixes", &load.num_prefixes},
                                                  {"priority", &load.priority},
                                                  {"max_concurrency", &load.max_concurrency}};
  for (const auto& [name, field] : numbers) {
    if (key != name) continue;
    ASSIGN_OR_RETURN(*field, ParseInt(value));
    if (key == "concurrency") load.rate = 0.0;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "must be one of rate, concurrency, prompt, output, prefix, prefixes, priority, arrivals, "
      "max_concurrency");
}

absl::Status CheckRange(const std::string& what, const TokenRange& range) {
  if (range.min >= 1 && range.max >= range.min) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " ", range.ToString(), ": a length, or a range of lengths, from 1"));
}

absl::Status Check(const Load& load, int max_context_tokens) {
  if ((load.concurrency > 0) == load.is_open() || load.concurrency < 0 || load.rate < 0.0) {
    return absl::InvalidArgumentError(absl::StrCat("concurrency ", load.concurrency, " and rate ",
                                                   load.rate,
                                                   ": one of them must be positive, the other 0"));
  }
  if (load.limit() < 1 || load.limit() > kMaxConcurrency) {
    return absl::InvalidArgumentError(
        absl::StrCat(load.limit(), " requests at a time, must be 1 to ", kMaxConcurrency));
  }
  RETURN_IF_ERROR(CheckRange("prompt tokens", load.prompt_tokens));
  RETURN_IF_ERROR(CheckRange("output tokens", load.output_tokens));
  const int longest = load.prompt_tokens.max + load.output_tokens.max;
  if (longest > max_context_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompts of up to ", load.prompt_tokens.max, " tokens with answers of up to ",
                     load.output_tokens.max, ": the model's context is ", max_context_tokens));
  }
  if (load.prefix_tokens < 0 || load.prefix_tokens >= load.prompt_tokens.min) {
    return absl::InvalidArgumentError(absl::StrCat("prefix of ", load.prefix_tokens,
                                                   " tokens: the shortest prompt, of ",
                                                   load.prompt_tokens.min, ", must be longer"));
  }
  if (load.num_prefixes < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(load.num_prefixes, " prefixes: must be at least 1"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string TokenRange::ToString() const {
  return min == max ? absl::StrCat(min) : absl::StrCat(min, "-", max);
}

absl::StatusOr<TokenRange> ParseTokenRange(const std::string& text) {
  const std::pair<std::string, std::string> ends = absl::StrSplit(text, absl::MaxSplits('-', 1));
  TokenRange range;
  const bool is_one = text.find('-') == std::string::npos;
  if (!absl::SimpleAtoi(ends.first, &range.min) ||
      !absl::SimpleAtoi(is_one ? ends.first : ends.second, &range.max) || range.min < 1 ||
      range.max < range.min) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" must be a number of tokens like 64, or a range like 64-512"));
  }
  return range;
}

absl::StatusOr<Arrivals> ParseArrivals(const std::string& text) {
  if (text == "poisson") return Arrivals::kPoisson;
  if (text == "regular") return Arrivals::kRegular;
  return absl::InvalidArgumentError(
      absl::StrCat("arrivals \"", text, "\" must be poisson or regular"));
}

absl::StatusOr<std::vector<Load>> ParseTenants(const std::string& text, const Load& defaults) {
  std::vector<Load> loads;
  std::set<std::string> names;
  for (const absl::string_view part : absl::StrSplit(text, ';', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> halves =
        absl::StrSplit(part, absl::MaxSplits(':', 1));
    Load load = defaults;
    load.tenant = halves.first;
    if (load.tenant.empty() || load.tenant.size() > kMaxTenantBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("tenant \"", part, "\" must begin with a name of 1 to ", kMaxTenantBytes,
                       " bytes, like A:rate=40,prompt=256"));
    }
    if (!names.insert(load.tenant).second) {
      return absl::InvalidArgumentError(absl::StrCat("tenant ", load.tenant, " is there twice"));
    }
    for (const absl::string_view setting : absl::StrSplit(halves.second, ',', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> pair =
          absl::StrSplit(setting, absl::MaxSplits('=', 1));
      const absl::Status set = Set(pair.first, pair.second, load);
      if (set.ok()) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("tenant ", load.tenant, ", \"", setting, "\": ", set.message()));
    }
    loads.push_back(std::move(load));
  }
  if (loads.empty()) return absl::InvalidArgumentError("no tenant is named");
  return loads;
}

absl::Status CheckLoad(const Load& load, int max_context_tokens) {
  const absl::Status status = Check(load, max_context_tokens);
  if (status.ok() || load.tenant.empty()) return status;
  return absl::Status(status.code(),
                      absl::StrCat("tenant ", load.tenant, ": ", std::string(status.message())));
}

}  // namespace orrery
