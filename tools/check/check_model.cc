#include "tools/check/check_model.h"

#include <algorithm>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/check/trace.h"

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

// What golden.json expects, with decoding appended to the prompt: num_prompt + num_decode rows.
struct Expected {
  std::vector<int32_t> ids;  // prompt, then the greedy ids fed back
  int num_prompt = 0;
  std::vector<int32_t> next_ids;   // argmax of the rows num_prompt - 1 ... end
  std::vector<float> logits;       // [num_prompt + greedy rows - 1, vocab]
  std::map<int, Routing> routing;  // by layer; weights cover the prompt, and decoding if given
};

// Sorts the experts of each row, and their weights with them. ids: [num_rows, k].
void SortRows(int k, Routing& routing) {
  std::vector<std::pair<int32_t, float>> row(k);
  for (size_t begin = 0; begin + k <= routing.ids.size(); begin += k) {
    for (int j = 0; j < k; ++j) row[j] = {routing.ids[begin + j], routing.weights[begin + j]};
    std::sort(row.begin(), row.end());
    for (int j = 0; j < k; ++j)
      std::tie(routing.ids[begin + j], routing.weights[begin + j]) = row[j];
  }
}

absl::Status AppendRouting(const GoldenFile& golden, const char* key, int topk,
                           Expected& expected) {
  const auto entries = golden.json().find(key);
  if (entries == golden.json().end()) return absl::OkStatus();
  for (const auto& entry : *entries) {
    if (!entry.contains("layer") || !entry.contains("ids") || !entry.contains("weights")) {
      return absl::InvalidArgumentError(
          absl::StrCat(golden.dir(), "/golden.json: ", key, " needs layer, ids, weights"));
    }
    Routing routing;
    ASSIGN_OR_RETURN(const Array<int32_t> ids, golden.I32(entry["ids"]));
    ASSIGN_OR_RETURN(const Array<float> weights, golden.F32(entry["weights"]));
    if (ids.shape.size() != 2 || ids.shape[1] != topk ||
        weights.values.size() != ids.values.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(golden.dir(), "/golden.json: ", key, " is not [rows, ", topk, "]"));
    }
    routing.ids = ids.values;
    routing.weights = weights.values;
    SortRows(topk, routing);
    Routing& all = expected.routing[entry["layer"].get<int>()];
    all.ids.insert(all.ids.end(), routing.ids.begin(), routing.ids.end());
    all.weights.insert(all.weights.end(), routing.weights.begin(), routing.weights.end());
  }
  return absl::OkStatus();
}

// Ids and sizes from a file that may be wrong; what computes with them relies on them.
absl::Status CheckExpected(const GoldenFile& golden, const ModelConfig& config,
                           const Expected& expected) {
  const auto bad = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(golden.dir(), "/golden.json: ", what));
  };
  if (expected.num_prompt == 0) return bad("prompt_ids is empty");
  for (const int32_t id : expected.ids) {
    if (id < 0 || id >= config.vocab_size) {
      return bad(absl::StrCat("id ", id, " is outside the vocabulary of ", config.vocab_size));
    }
  }
  const size_t max_rows = expected.ids.size();
  if (expected.logits.size() % config.vocab_size != 0 ||
      expected.logits.size() / config.vocab_size > max_rows) {
    return bad(absl::StrCat("logits are not [rows, ", config.vocab_size, "] with at most ",
                            max_rows, " rows"));
  }
  const size_t topk = config.num_experts_per_token;
  for (const auto& [layer, routing] : expected.routing) {
    for (size_t i = 0; i < routing.ids.size(); ++i) {
      const int32_t expert = routing.ids[i];
      const bool repeated = i % topk > 0 && routing.ids[i - 1] == expert;
      if (expert < 0 || expert >= config.num_experts || repeated) {
        return bad(absl::StrCat("routing of layer ", layer, " chooses expert ", expert,
                                repeated ? " twice" : absl::StrCat(" of ", config.num_experts)));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Expected> ReadExpected(const GoldenFile& golden, const ModelConfig& config) {
  Expected expected;
  const nlohmann::json& json = golden.json();
  try {
    expected.ids = json.at("prompt_ids").get<std::vector<int32_t>>();
    expected.num_prompt = static_cast<int>(expected.ids.size());
    ASSIGN_OR_RETURN(Array<float> logits, golden.F32(json.at("logits")));
    expected.logits = std::move(logits.values);
    if (json.contains("greedy")) {
      const nlohmann::json& greedy = json["greedy"];
      expected.next_ids = greedy.at("ids").get<std::vector<int32_t>>();
      ASSIGN_OR_RETURN(const Array<float> rows, golden.F32(greedy.at("logits")));
      // Row 0 is the last row of the prompt, which `logits` has already.
      if (expected.next_ids.empty() ||
          rows.values.size() < static_cast<size_t>(config.vocab_size)) {
        return absl::InvalidArgumentError(
            absl::StrCat(golden.dir(), "/golden.json: greedy has no rows"));
      }
      expected.logits.insert(expected.logits.end(), rows.values.begin() + config.vocab_size,
                             rows.values.end());
      if (greedy.contains("next_id_after")) {
        expected.ids.insert(expected.ids.end(), expected.next_ids.begin(), expected.next_ids.end());
        expected.next_ids.push_back(greedy["next_id_after"].get<int32_t>());
      } else {
        expected.ids.insert(expected.ids.end(), expected.next_ids.begin(),
                            expected.next_ids.end() - 1);
      }
    }
    RETURN_IF_ERROR(AppendRouting(golden, "routing", config.num_experts_per_token, expected));
    RETURN_IF_ERROR(
        AppendRouting(golden, "decode_routing", config.num_experts_per_token, expected));
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(golden.dir(), "/golden.json: ", e.what()));
  }
  RETURN_IF_ERROR(CheckExpected(golden, config, expected));
  return expected;
}

// The same request on every rank at once, so that shards see rows of several.
absl::StatusOr<std::vector<Trace>> RunOnAllRanks(const LocalCluster& cluster,
                                                 const TraceRequest& request) {
  std::vector<absl::StatusOr<Trace>> results(cluster.num_ranks(), absl::UnknownError("not run"));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < cluster.num_ranks(); ++rank) {
    threads.emplace_back([&, rank] { results[rank] = RunTrace(cluster.parts(rank), request); });
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
absl::StatusOr<Trace> RunAllWays(const LocalCluster& cluster, TraceRequest request,
                                 Report& report) {
  std::string differing;
  Trace first;
  bool have_first = false;
  for (const int chunk_rows : {0, 7, 1}) {
    request.chunk_rows = chunk_rows;
    ASSIGN_OR_RETURN(std::vector<Trace> traces, RunOnAllRanks(cluster, request));
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
              differing.empty()
                  ? absl::StrCat("prompt whole, in chunks of 7, token by token; ",
                                 cluster.num_ranks(), cluster.num_ranks() == 1 ? " rank" : " ranks")
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
                           const std::vector<std::vector<float>>& ours, const LayerColumns& columns,
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

absl::Status CompareF32(const GoldenFile& golden, const ModelConfig& config,
                        const Expected& expected, const Trace& trace, Report& report) {
  // The last row has no golden logits, only the id that follows it.
  report.Compare("logits", {trace.logits.data(), expected.logits.size()}, expected.logits, kLogits);
  std::vector<int32_t> next_ids;
  for (size_t i = 0; i < expected.next_ids.size(); ++i) {
    next_ids.push_back(Argmax(
        Row(trace.logits, expected.num_prompt - 1 + static_cast<int>(i), config.vocab_size)));
  }
  if (!next_ids.empty()) report.CompareExact("greedy.ids", next_ids, expected.next_ids);

  const LayerColumns hidden = {
      .stride = config.hidden_size, .begin = 0, .width = config.hidden_size};
  RETURN_IF_ERROR(CompareLayers(golden, "hidden_after_layer", trace.hidden, hidden,
                                expected.num_prompt, report));
  RETURN_IF_ERROR(
      CompareLayers(golden, "attn_out", trace.attention, hidden, expected.num_prompt, report));
  RETURN_IF_ERROR(
      CompareLayers(golden, "ffn_out", trace.feed_forward, hidden, expected.num_prompt, report));
  const int latent = config.kv_lora_rank;
  RETURN_IF_ERROR(CompareLayers(golden, "latent_cache", trace.cache,
                                {.stride = config.kv_row_width(), .begin = 0, .width = latent},
                                expected.num_prompt, report));
  RETURN_IF_ERROR(CompareLayers(
      golden, "rope_key_cache", trace.cache,
      {.stride = config.kv_row_width(), .begin = latent, .width = config.qk_rope_head_dim},
      expected.num_prompt, report));

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
  return absl::OkStatus();
}

void CompareBf16(const ModelConfig& config, const Expected& expected, const Trace& trace,
                 bool force_routing, RowFormat row_format, Report& report) {
  const int num_rows = static_cast<int>(expected.logits.size() / config.vocab_size);
  const int topk = config.num_experts_per_token;
  std::vector<float> actual, golden;
  int num_agreeing = 0;
  int num_same_experts = 0;
  for (int row = 0; row < num_rows; ++row) {
    bool same_experts = true;
    for (const auto& [layer, routing] : expected.routing) {
      const size_t begin = static_cast<size_t>(row) * topk;
      if (begin + topk > routing.ids.size()) continue;
      const std::vector<int32_t>& ours = trace.routing.at(layer).ids;
      same_experts = same_experts && std::equal(ours.begin() + begin, ours.begin() + begin + topk,
                                                routing.ids.begin() + begin);
    }
    const absl::Span<const float> a = Row(trace.logits, row, config.vocab_size);
    const absl::Span<const float> b = Row(expected.logits, row, config.vocab_size);
    num_agreeing += Argmax(a) == Argmax(b);
    if (!same_experts) continue;
    ++num_same_experts;
    actual.insert(actual.end(), a.begin(), a.end());
    golden.insert(golden.end(), b.begin(), b.end());
  }
  const bool dense = config.num_experts == 0;
  // The goldens' README gives no tighter limit for fp8 rows, whose mantissa is 4 bits shorter.
  const bool sharp = force_routing && row_format != RowFormat::kFp8;
  const double limit = sharp ? kBf16ForcedRms : dense ? kBf16DenseRms : kBf16Rms;
  report.Compare(force_routing || dense ? "logits" : "logits, same experts", actual, golden,
                 {.rms = limit});
  const double agreement = static_cast<double>(num_agreeing) / num_rows;
  report.Line(agreement >= kBf16Agreement, "argmax agreement",
              absl::StrFormat("%.3f (limit %.2f), %d of %d rows with the golden experts", agreement,
                              kBf16Agreement, num_same_experts, num_rows));
}

}  // namespace

absl::Status CheckModel(const GoldenFile& golden, const CheckModelOptions& options,
                        Report& report) {
  LocalClusterOptions cluster_options = options.cluster;
  cluster_options.model_dir = golden.dir();
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(golden.dir()));
  ASSIGN_OR_RETURN(const Expected expected, ReadExpected(golden, config));
  cluster_options.max_context_tokens = static_cast<int>(expected.ids.size());
  if (cluster_options.max_context_tokens > config.max_positions) {
    return absl::InvalidArgumentError(absl::StrCat(golden.dir(), ": ", expected.ids.size(),
                                                   " positions, the model has ",
                                                   config.max_positions));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<LocalCluster> cluster,
                   LocalCluster::Create(cluster_options));
  report.Title(absl::StrCat(golden.dir(), "  (", cluster->Describe(),
                            options.force_routing ? ", routing forced" : "", ")"));

  TraceRequest request;
  request.ids = expected.ids;
  request.num_prefill = expected.num_prompt;
  if (options.force_routing) {
    for (const auto& [layer, routing] : expected.routing) {
      const size_t needed = expected.ids.size() * config.num_experts_per_token;
      if (routing.ids.size() < needed) {
        return absl::InvalidArgumentError(absl::StrCat(
            golden.dir(), ": the golden routing of layer ", layer, " does not cover all rows"));
      }
      request.forced_experts[layer] = routing.ids;
    }
  }
  ASSIGN_OR_RETURN(const Trace trace, RunAllWays(*cluster, request, report));
  if (cluster_options.numerics.precision == Precision::kF32) {
    return CompareF32(golden, config, expected, trace, report);
  }
  CompareBf16(config, expected, trace, options.force_routing, cluster_options.numerics.row_format,
              report);
  return absl::OkStatus();
}

}  // namespace orrery
