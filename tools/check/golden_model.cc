#include "tools/check/golden_model.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

absl::Status Bad(const GoldenFile& golden, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(golden.dir(), "/golden.json: ", what));
}

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

// Appends {ids, weights} of one layer; key names them in messages.
absl::Status AppendRouting(const GoldenFile& golden, const nlohmann::json& entry, const char* key,
                           int topk, Routing& all) {
  if (!entry.contains("ids") || !entry.contains("weights")) {
    return Bad(golden, absl::StrCat(key, " needs ids and weights"));
  }
  Routing routing;
  ASSIGN_OR_RETURN(Array<int32_t> ids, golden.I32(entry["ids"]));
  ASSIGN_OR_RETURN(Array<float> weights, golden.F32(entry["weights"]));
  if (ids.shape.size() != 2 || ids.shape[1] != topk || weights.values.size() != ids.values.size()) {
    return Bad(golden, absl::StrCat(key, " is not [rows, ", topk, "]"));
  }
  routing.ids = std::move(ids.values);
  routing.weights = std::move(weights.values);
  SortRows(topk, routing);
  all.ids.insert(all.ids.end(), routing.ids.begin(), routing.ids.end());
  all.weights.insert(all.weights.end(), routing.weights.begin(), routing.weights.end());
  return absl::OkStatus();
}

absl::Status ReadRouting(const GoldenFile& golden, const ModelConfig& config,
                         GoldenModel& expected) {
  for (const char* key : {"routing", "decode_routing"}) {
    const auto entries = golden.json().find(key);
    if (entries == golden.json().end()) continue;
    for (const auto& entry : *entries) {
      RETURN_IF_ERROR(AppendRouting(golden, entry, key, config.num_experts_per_token,
                                    expected.routing[entry.at("layer").get<int>()]));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadGreedy(const GoldenFile& golden, const ModelConfig& config,
                        GoldenModel& expected) {
  if (!golden.json().contains("greedy")) return absl::OkStatus();
  const nlohmann::json& greedy = golden.json()["greedy"];
  expected.next_ids = greedy.at("ids").get<std::vector<int32_t>>();
  ASSIGN_OR_RETURN(const Array<float> rows, golden.F32(greedy.at("logits")));
  // Row 0 is the last row of the prompt, which `logits` has already.
  if (expected.next_ids.empty() || rows.values.size() < static_cast<size_t>(config.vocab_size)) {
    return Bad(golden, "greedy has no rows");
  }
  expected.logits.insert(expected.logits.end(), rows.values.begin() + config.vocab_size,
                         rows.values.end());
  if (greedy.contains("next_id_after")) {
    expected.ids.insert(expected.ids.end(), expected.next_ids.begin(), expected.next_ids.end());
    expected.next_ids.push_back(greedy["next_id_after"].get<int32_t>());
  } else {
    expected.ids.insert(expected.ids.end(), expected.next_ids.begin(), expected.next_ids.end() - 1);
  }
  return absl::OkStatus();
}

absl::Status ReadMtp(const GoldenFile& golden, const ModelConfig& config, GoldenModel& expected) {
  if (!golden.json().contains("mtp")) return absl::OkStatus();
  const nlohmann::json& json = golden.json()["mtp"];
  GoldenMtp& mtp = expected.mtp;
  mtp.next_ids = json.at("next_ids").get<std::vector<int32_t>>();
  ASSIGN_OR_RETURN(Array<float> logits, golden.F32(json.at("logits")));
  mtp.logits = std::move(logits.values);
  if (mtp.next_ids.size() != static_cast<size_t>(expected.num_prompt) ||
      mtp.logits.size() != mtp.next_ids.size() * config.vocab_size) {
    return Bad(golden,
               absl::StrCat("mtp.next_ids are not [", expected.num_prompt, "], or mtp.logits not [",
                            expected.num_prompt, ", ", config.vocab_size, "]"));
  }
  if (json.contains("routing")) {
    RETURN_IF_ERROR(AppendRouting(golden, json["routing"], "mtp.routing",
                                  config.num_experts_per_token,
                                  expected.routing[config.num_layers]));
  }
  if (!json.contains("draft_ids")) return absl::OkStatus();
  mtp.draft_ids = json["draft_ids"].get<std::vector<int32_t>>();
  ASSIGN_OR_RETURN(Array<float> drafts, golden.F32(json.at("draft_logits")));
  mtp.draft_logits = std::move(drafts.values);
  // Draft j follows greedy id j; draft 0 is the last row of the prompt.
  const size_t num_drafts = mtp.draft_ids.size();
  if (num_drafts == 0 || num_drafts > expected.next_ids.size() ||
      mtp.draft_logits.size() != num_drafts * config.vocab_size ||
      mtp.next_ids.back() != expected.next_ids[0]) {
    return Bad(golden,
               absl::StrCat("mtp has ", num_drafts, " drafts, which do not fit greedy.ids, ",
                            "mtp.next_ids or mtp.draft_logits"));
  }
  mtp.next_ids.insert(mtp.next_ids.end(), expected.next_ids.begin() + 1,
                      expected.next_ids.begin() + num_drafts);
  return absl::OkStatus();
}

absl::Status CheckIds(const GoldenFile& golden, const ModelConfig& config,
                      const std::vector<int32_t>& ids) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= config.vocab_size) {
      return Bad(golden,
                 absl::StrCat("id ", id, " is outside the vocabulary of ", config.vocab_size));
    }
  }
  return absl::OkStatus();
}

// Ids and sizes from a file that may be wrong; what computes with them relies on them.
absl::Status CheckGoldenModel(const GoldenFile& golden, const ModelConfig& config,
                              const GoldenModel& expected) {
  RETURN_IF_ERROR(CheckIds(golden, config, expected.ids));
  RETURN_IF_ERROR(CheckIds(golden, config, expected.mtp.next_ids));
  const size_t max_rows = expected.ids.size();
  if (expected.mtp.next_ids.size() > max_rows) {
    return Bad(golden, absl::StrCat("mtp needs ", expected.mtp.next_ids.size(),
                                    " hidden states, there are ", max_rows));
  }
  if (expected.logits.size() % config.vocab_size != 0 ||
      expected.logits.size() / config.vocab_size > max_rows) {
    return Bad(golden, absl::StrCat("logits are not [rows, ", config.vocab_size, "] with at most ",
                                    max_rows, " rows"));
  }
  const size_t topk = config.num_experts_per_token;
  for (const auto& [layer, routing] : expected.routing) {
    for (size_t i = 0; i < routing.ids.size(); ++i) {
      const int32_t expert = routing.ids[i];
      const bool repeated = i % topk > 0 && routing.ids[i - 1] == expert;
      if (expert < 0 || expert >= config.num_experts || repeated) {
        return Bad(golden,
                   absl::StrCat("routing of layer ", layer, " chooses expert ", expert,
                                repeated ? " twice" : absl::StrCat(" of ", config.num_experts)));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GoldenModel> ReadGoldenModel(const GoldenFile& golden, const ModelConfig& config) {
  GoldenModel expected;
  try {
    expected.ids = golden.json().at("prompt_ids").get<std::vector<int32_t>>();
    expected.num_prompt = static_cast<int>(expected.ids.size());
    if (expected.num_prompt == 0) return Bad(golden, "prompt_ids is empty");
    ASSIGN_OR_RETURN(Array<float> logits, golden.F32(golden.json().at("logits")));
    expected.logits = std::move(logits.values);
    RETURN_IF_ERROR(ReadGreedy(golden, config, expected));
    RETURN_IF_ERROR(ReadRouting(golden, config, expected));
    RETURN_IF_ERROR(ReadMtp(golden, config, expected));
  } catch (const nlohmann::json::exception& e) {
    return Bad(golden, e.what());
  }
  RETURN_IF_ERROR(CheckGoldenModel(golden, config, expected));
  return expected;
}

}  // namespace orrery
