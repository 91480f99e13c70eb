// One request at a time: a prompt with a new prefix, another with the same prefix, and one of
// another tenant with it.
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tools/bench/draws.h"
#include "tools/bench/scenarios.h"
#include "tools/bench/summary.h"

namespace orrery {
namespace {

constexpr double kMinRatio = 5.0;
constexpr int kPrefixTokens = 1000;
constexpr int kRestTokens = 16;
constexpr int kOutputTokens = 4;

struct Asked {
  double ttft_ms = 0.0;
  double cached_tokens = 0.0;
};

struct Seen {
  std::vector<double> ttft_ms;
  std::vector<double> cached_tokens;
  void Add(const Asked& asked) {
    ttft_ms.push_back(asked.ttft_ms);
    cached_tokens.push_back(asked.cached_tokens);
  }
};

absl::StatusOr<Asked> Ask(ServeBench& bench, const std::string& tenant, const RequestShape& shape) {
  v1::GenerateRequest request = bench.options().common;
  request.mutable_ids()->mutable_id()->Assign(shape.prompt.begin(), shape.prompt.end());
  request.set_max_new_tokens(shape.output_tokens);
  request.set_ignore_eos(true);
  request.set_seed(shape.seed);
  request.set_tenant(tenant);
  std::optional<absl::Time> first;
  const absl::Time begin = absl::Now();
  ASSIGN_OR_RETURN(
      const Answer answer,
      bench.options().client->Generate(request, bench.options().timeout, [&](const v1::Delta&) {
        if (!first.has_value()) first = absl::Now();
        return true;
      }));
  if (!first.has_value()) return absl::UnavailableError("an answer had no token");
  return Asked{
      .ttft_ms = absl::ToDoubleMilliseconds(*first - begin),
      .cached_tokens = static_cast<double>(answer.finished.usage().cached_prompt_tokens())};
}

void Show(ServeBench& bench, const std::string& what, const Seen& seen) {
  const Summary ttft = Summarize(seen.ttft_ms);
  bench.options().out->Print(absl::StrFormat(
      "%-40s TTFT %.2f ms (median), %.2f ms (max); %g cached tokens (median), %g (max)\n", what,
      ttft.median, ttft.max, Median(seen.cached_tokens), Summarize(seen.cached_tokens).max));
}

}  // namespace

absl::Status RunPrefix(ServeBench& bench, const ScenarioOptions& options) {
  const int rounds = options.rounds > 0 ? options.rounds : 16;
  Load load;
  load.concurrency = 1;
  load.prefix_tokens = kPrefixTokens;
  load.prompt_tokens = {.min = kPrefixTokens + kRestTokens, .max = kPrefixTokens + kRestTokens};
  load.output_tokens = {.min = kOutputTokens, .max = kOutputTokens};
  RETURN_IF_ERROR(CheckLoad(load, bench.result().model.max_context_tokens()));
  Seen first, second, other;
  // Round 0 warms up and is not counted.
  for (int round = 0; round <= rounds; ++round) {
    // A seed of its own gives each round a prefix of its own; its requests share it.
    const LoadDraws draws(&load, {.seed = bench.SeedOf(round)}, &bench.token_pool());
    ASSIGN_OR_RETURN(const Asked a, Ask(bench, "X", draws.Shape(0)));
    ASSIGN_OR_RETURN(const Asked b, Ask(bench, "X", draws.Shape(1)));
    ASSIGN_OR_RETURN(const Asked c, Ask(bench, "Y", draws.Shape(2)));
    if (a.cached_tokens > 0.0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the cluster knows prompts of --seed=", bench.options().seed, " from an earlier run: ",
          a.cached_tokens, " tokens of a first request were cached; say another --seed"));
    }
    if (round == 0) continue;
    first.Add(a);
    second.Add(b);
    other.Add(c);
  }
  Show(bench, absl::StrCat("first request with a prefix of ", kPrefixTokens), first);
  Show(bench, "second request with it", second);
  Show(bench, "another tenant's request with it", other);
  const double warm = Median(second.ttft_ms);
  bench.Judge(absl::StrCat("TTFT of the first request with a prefix of ", kPrefixTokens,
                           " tokens over the second, medians of ", rounds, " prefixes"),
              warm > 0.0 ? Median(first.ttft_ms) / warm : 0.0, AtLeast(kMinRatio));
  bench.Judge("TTFT of the first over another tenant's",
              Median(first.ttft_ms) / Median(other.ttft_ms));
  bench.Judge("most cached tokens of another tenant's request", Summarize(other.cached_tokens).max,
              AtMost(0.0));
  return absl::OkStatus();
}

}  // namespace orrery
