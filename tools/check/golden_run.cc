#include "tools/check/golden_run.h"

#include <algorithm>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace orrery {
namespace {

// Limits of the goldens' README.
constexpr Tolerance kLogits = {.max = 1e-3, .rms = 1e-4};
constexpr Tolerance kActivations = {.max = 1e-3};
constexpr double kRoutingWeights = 1e-4;  // at weight scales up to 2.5
constexpr double kBf16ForcedRms = 0.05;
constexpr double kBf16Rms = 0.25;  // positions whose experts are the golden ones
constexpr double kBf16DenseRms = 0.1;
constexpr double kBf16Agreement = 0.75;  // of argmax, over all positions

constexpr int kChainedDrafts = 2;  // depth 2 and 3

// The same request on every rank at once, so that shards see rows of several.
absl::StatusOr<std::vector<Trace>> RunOnAllRanks(absl::Span<const StepParts> ranks,
                                                 const TraceRequest& request) {
  std::vector<absl::StatusOr<Trace>> results(ranks.size(), absl::UnknownError("not run"));
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    threads.emplace_back([&, rank] { results[rank] = RunTrace(ranks[rank], request); });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<Trace> traces;
  for (absl::StatusOr<Trace>& result : results) {
    RETURN_IF_ERROR(result.status());
    traces.push_back(*std::move(result));
  }
  return traces;
}

// Whole, in chunks of 7 and token by token, on every rank: one trace if all are the same bits.
absl::StatusOr<Trace> RunAllWays(absl::Span<const StepParts> ranks, TraceRequest request,
                                 Report& report) {
  std::string differing;
  Trace first;
  bool have_first = false;
  for (const int chunk_rows : {0, 7, 1}) {
    request.chunk_rows = chunk_rows;
    ASSIGN_OR_RETURN(std::vector<Trace> traces, RunOnAllRanks(ranks, request));
    for (size_t rank = 0; rank < traces.size(); ++rank) {
      if (!have_first) {
        first = std::move(traces[rank]);
        have_first = true;
      } else if (!(traces[rank] == first)) {
        absl::StrAppend(&differing, " rank ", rank, " with ",
                        chunk_rows == 0 ? std::string("the whole prompt")
                                        : absl::StrCat("chunks of ", chunk_rows),
                        ";");
      }
    }
  }
  report.Line(differing.empty(), "same bits",
              differing.empty() ? absl::StrCat("prompt whole, in chunks of 7, token by token; ",
                                               ranks.size(), ranks.size() == 1 ? " rank" : " ranks")
                                : absl::StrCat("differ:", differing));
  return first;
}

absl::Span<const float> Row(const std::vector<float>& values, int row, int width) {
  return {values.data() + static_cast<size_t>(row) * width, static_cast<size_t>(width)};
}

int32_t Argmax(absl::Span<const float> row) {
  return static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

// Compares per-layer arrays [layers, num_prompt, width] of the prompt, where the golden has them.
// `begin` and `width` select columns of ours, which are `stride` apart.
struct LayerColumns {
  int stride = 0;
  int begin = 0;
  int width = 0;
};
absl::Status CompareLayers(const GoldenFile& golden, const char* key,
                           absl::Span<const std::vector<float>> ours, const LayerColumns& columns,
                           int num_prompt, Report& report) {
  if (!golden.json().contains(key)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Array<float> expected, golden.F32(golden.json()[key]));
  std::vector<float> actual;
  for (const std::vector<float>& layer : ours) {
    for (int row = 0; row < num_prompt; ++row) {
      const auto begin = layer.begin() + static_cast<int64_t>(row) * columns.stride + columns.begin;
      actual.insert(actual.end(), begin, begin + columns.width);
    }
  }
  report.Compare(key, actual, expected.values, kActivations);
  return absl::OkStatus();
}

// The likeliest id of each row of logits, from a row on.
std::vector<int32_t> LikeliestIds(const std::vector<float>& logits, int first_row, size_t num_rows,
                                  int vocab_size) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < num_rows; ++i) {
    ids.push_back(Argmax(Row(logits, first_row + static_cast<int>(i), vocab_size)));
  }
  return ids;
}

void CompareRouting(const ModelConfig& config, const GoldenModel& expected, const Trace& trace,
                    Report& report) {
  const double weight_limit =
      config.weight_scale > 2.5 ? kRoutingWeights * config.weight_scale / 1.6 : kRoutingWeights;
  for (const auto& [layer, routing] : expected.routing) {
    const auto ours = trace.routing.find(layer);
    if (ours == trace.routing.end()) {
      report.Line(false, absl::StrCat("routing, layer ", layer), "this layer has no gate here");
      continue;
    }
    // The golden may cover the prompt only.
    const size_t count = std::min(routing.ids.size(), ours->second.ids.size());
    report.CompareExact(absl::StrCat("routing ids, layer ", layer),
                        {ours->second.ids.data(), count}, routing.ids);
    report.Compare(absl::StrCat("routing weights, layer ", layer),
                   {ours->second.weights.data(), count}, routing.weights, {.max = weight_limit});
  }
}

// The module's row i is the golden's, which counts it as position i where ours stands at i + 1: rotary
// positions are relative.
void CompareMtpF32(const ModelConfig& config, const GoldenModel& expected, const Trace& trace,
                   Report& report) {
  if (!expected.has_mtp()) return;
  const GoldenMtp& mtp = expected.mtp;
  const int vocab = config.vocab_size;
  const int first_draft = expected.num_prompt - 1;
  report.Compare("mtp.logits", {trace.mtp_logits.data(), mtp.logits.size()}, mtp.logits, kLogits);
  if (mtp.draft_ids.empty()) return;
  report.Compare("mtp.draft_logits",
                 {Row(trace.mtp_logits, first_draft, vocab).data(), mtp.draft_logits.size()},
                 mtp.draft_logits, kLogits);
  report.CompareExact("mtp.draft_ids",
                      LikeliestIds(trace.mtp_logits, first_draft, mtp.draft_ids.size(), vocab),
                      mtp.draft_ids);
}

absl::Status CompareF32(const GoldenFile& golden, const ModelConfig& config,
                        const GoldenModel& expected, const Trace& trace, Report& report) {
  // The last row has no golden logits, only the id that follows it.
  report.Compare("logits", {trace.logits.data(), expected.logits.size()}, expected.logits, kLogits);
  if (!expected.next_ids.empty()) {
    report.CompareExact("greedy.ids",
                        LikeliestIds(trace.logits, expected.num_prompt - 1,
                                     expected.next_ids.size(), config.vocab_size),
                        expected.next_ids);
  }
  const LayerColumns hidden = {
      .stride = config.hidden_size, .begin = 0, .width = config.hidden_size};
  const LayerColumns latent = {
      .stride = config.kv_row_width(), .begin = 0, .width = config.kv_lora_rank};
  const LayerColumns rope_key = {.stride = config.kv_row_width(),
                                 .begin = config.kv_lora_rank,
                                 .width = config.qk_rope_head_dim};
  const auto compare = [&](const char* key, const std::vector<std::vector<float>>& ours,
                           const LayerColumns& columns) {
    return CompareLayers(golden, key, absl::MakeSpan(ours).first(config.num_layers), columns,
                         expected.num_prompt, report);
  };
  RETURN_IF_ERROR(compare("hidden_after_layer", trace.hidden, hidden));
  RETURN_IF_ERROR(compare("attn_out", trace.attention, hidden));
  RETURN_IF_ERROR(compare("ffn_out", trace.feed_forward, hidden));
  RETURN_IF_ERROR(compare("latent_cache", trace.cache, latent));
  RETURN_IF_ERROR(compare("rope_key_cache", trace.cache, rope_key));
  CompareRouting(config, expected, trace, report);
  CompareMtpF32(config, expected, trace, report);
  return absl::OkStatus();
}

// Whether the layers up to num_layers chose the golden experts for a row, as far as the golden says.
bool HasGoldenExperts(const GoldenModel& expected, const Trace& trace, int num_layers, int row,
                      int topk) {
  const size_t begin = static_cast<size_t>(row) * topk;
  for (const auto& [layer, routing] : expected.routing) {
    if (layer >= num_layers || begin + topk > routing.ids.size()) continue;
    const auto ours = trace.routing.find(layer);
    if (ours == trace.routing.end() || begin + topk > ours->second.ids.size()) return false;
    if (!std::equal(routing.ids.begin() + begin, routing.ids.begin() + begin + topk,
                    ours->second.ids.begin() + begin)) {
      return false;
    }
  }
  return true;
}

// What of a case is compared in bf16: one array of logits.
struct Bf16Logits {
  const char* name;
  const char* which;  // of its rows
  const std::vector<float>& ours;
  const std::vector<float>& golden;
  int num_layers;  // that it went through
  double rms;      // limit
};

void CompareBf16(const ModelConfig& config, const GoldenModel& expected, const Trace& trace,
                 const Bf16Logits& logits, Report& report) {
  const int num_rows = static_cast<int>(logits.golden.size() / config.vocab_size);
  std::vector<float> actual, golden;
  int num_agreeing = 0;
  int num_same_experts = 0;
  for (int row = 0; row < num_rows; ++row) {
    const absl::Span<const float> a = Row(logits.ours, row, config.vocab_size);
    const absl::Span<const float> b = Row(logits.golden, row, config.vocab_size);
    num_agreeing += Argmax(a) == Argmax(b);
    if (!HasGoldenExperts(expected, trace, logits.num_layers, row, config.num_experts_per_token)) {
      continue;
    }
    ++num_same_experts;
    actual.insert(actual.end(), a.begin(), a.end());
    golden.insert(golden.end(), b.begin(), b.end());
  }
  report.Compare(absl::StrCat(logits.name, logits.which), actual, golden, {.rms = logits.rms});
  const double agreement = static_cast<double>(num_agreeing) / num_rows;
  report.Line(agreement >= kBf16Agreement, absl::StrCat(logits.name, ", argmax agrees"),
              absl::StrFormat("%.3f (limit %.2f), %d of %d rows with the golden experts", agreement,
                              kBf16Agreement, num_same_experts, num_rows));
}

void CompareAllBf16(const ModelConfig& config, const GoldenModel& expected, const Trace& trace,
                    const GoldenRunOptions& options, Report& report) {
  const bool dense = config.num_experts == 0;
  // The goldens' README gives no tighter limit for fp8 rows, whose mantissa is 4 bits shorter.
  const bool sharp = options.force_routing && options.numerics.row_format != RowFormat::kFp8;
  const double rms = sharp ? kBf16ForcedRms : dense ? kBf16DenseRms : kBf16Rms;
  const char* which = options.force_routing || dense ? "" : ", same experts";
  CompareBf16(config, expected, trace,
              {.name = "logits",
               .which = which,
               .ours = trace.logits,
               .golden = expected.logits,
               .num_layers = config.num_layers,
               .rms = rms},
              report);
  if (!expected.has_mtp()) return;
  CompareBf16(config, expected, trace,
              {.name = "mtp.logits",
               .which = which,
               .ours = trace.mtp_logits,
               .golden = expected.mtp.logits,
               .num_layers = config.num_layers + 1,
               .rms = rms},
              report);
}

// What to run, from what is expected: the module's drafts are chained a little beyond the golden, to see
// that they are the same bits everywhere.
TraceRequest MakeRequest(const ModelConfig& config, const GoldenModel& expected,
                         bool force_routing) {
  TraceRequest request;
  request.ids = expected.ids;
  request.num_prefill = expected.num_prompt;
  if (expected.has_mtp()) {
    request.mtp_ids = expected.mtp.next_ids;
    const int num_left = config.max_positions - 1 - static_cast<int>(request.mtp_ids.size());
    request.num_chained_drafts = std::clamp(num_left, 0, kChainedDrafts);
  }
  if (force_routing) {
    for (const auto& [layer, routing] : expected.routing)
      request.forced_experts[layer] = routing.ids;
  }
  return request;
}

}  // namespace

absl::StatusOr<GoldenRun> GoldenRun::Open(const GoldenFile& golden,
                                          const GoldenRunOptions& options) {
  GoldenRun run(&golden, options);
  ASSIGN_OR_RETURN(run.config_, ReadModelConfig(golden.dir()));
  ASSIGN_OR_RETURN(run.expected_, ReadGoldenModel(golden, run.config_));
  run.request_ = MakeRequest(run.config_, run.expected_, options.force_routing);
  for (const auto& [layer, ids] : run.request_.forced_experts) {
    const size_t num_rows =
        layer < run.config_.num_layers ? run.expected_.ids.size() : run.expected_.num_prompt;
    if (ids.size() < num_rows * run.config_.num_experts_per_token) {
      return absl::InvalidArgumentError(absl::StrCat(golden.dir(), ": the golden routing of layer ",
                                                     layer, " does not cover all rows"));
    }
  }
  if (run.num_positions() > run.config_.max_positions) {
    return absl::InvalidArgumentError(absl::StrCat(golden.dir(), ": ", run.num_positions(),
                                                   " positions, the model has ",
                                                   run.config_.max_positions));
  }
  return run;
}

// The module's row i stands at i + 1.
int GoldenRun::num_positions() const {
  return static_cast<int>(
      std::max(request_.ids.size(), request_.mtp_ids.size() + 1 + request_.num_chained_drafts));
}

absl::Status GoldenRun::Check(absl::Span<const StepParts> ranks, Report& report) const {
  ASSIGN_OR_RETURN(const Trace trace, RunAllWays(ranks, request_, report));
  if (options_.numerics.precision == Precision::kF32) {
    return CompareF32(*golden_, config_, expected_, trace, report);
  }
  CompareAllBf16(config_, expected_, trace, options_, report);
  return absl::OkStatus();
}

}  // namespace orrery
