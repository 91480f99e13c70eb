#include "tools/check/invariance/workload.h"

#include <algorithm>
#include <filesystem>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "checkpoint/chat_template.h"
#include "kernels/kernels.h"
#include "tools/eval/problems.h"

namespace orrery {
namespace {

// Around the borders of blocks (64) and chunks (16, 64), the most telling ones first.
constexpr int kTellingLengths[] = {65,  1,  64,  130, 63,  300, 17, 128,
                                   127, 16, 129, 15,  192, 33,  257};
// Of other prompts, whose beginning is shared: within a block, exactly one, in the second.
constexpr int kSharedLengths[] = {64, 100, 128, 40};
// Above those of all requests.
constexpr int kIntruderPriority = 100;

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int Below(int limit) { return static_cast<int>(engine_() % limit); }
  uint64_t Seed() { return engine_(); }
  std::vector<int32_t> Ids(int vocab_size, int count) {
    std::vector<int32_t> ids(count);
    for (int32_t& id : ids) id = Below(vocab_size);
    return ids;
  }

 private:
  std::mt19937_64 engine_;
};

using Prompts = std::vector<std::vector<int32_t>>;

bool FileExists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

absl::StatusOr<int> AnswerTokens(const WorkloadOptions& options, const ModelConfig& config) {
  const int most = config.max_positions - 1;
  if (most < kMinAnswerTokens) {
    return absl::InvalidArgumentError(absl::StrCat("the model's context of ", config.max_positions,
                                                   " tokens leaves no room for an answer of ",
                                                   kMinAnswerTokens));
  }
  if (options.max_new_tokens == 0) {
    return std::clamp(config.max_positions / 4, kMinAnswerTokens, kDefaultAnswerTokens);
  }
  if (options.max_new_tokens < kMinAnswerTokens || options.max_new_tokens > most) {
    return absl::InvalidArgumentError(absl::StrCat("max_new_tokens is ", options.max_new_tokens,
                                                   ", must be ", kMinAnswerTokens, " to ", most));
  }
  return options.max_new_tokens;
}

// Chat prompts of the file, as ids; those that are longer than `max_tokens` are left out.
absl::StatusOr<Prompts> EvalPrompts(const std::string& model_dir, const Tokenizer& tokenizer,
                                    const ModelConfig& config, int max_tokens) {
  ASSIGN_OR_RETURN(const std::vector<Problem> problems, ReadProblems(model_dir + "/eval.jsonl"));
  ASSIGN_OR_RETURN(const ChatTemplate chat_template, ChatTemplate::Open(model_dir));
  Prompts prompts;
  for (const Problem& problem : problems) {
    ASSIGN_OR_RETURN(const std::vector<PromptPiece> pieces,
                     chat_template.Render(problem.messages, {}));
    ASSIGN_OR_RETURN(std::vector<int32_t> ids, EncodePieces(tokenizer, pieces));
    const bool fits = !ids.empty() && static_cast<int>(ids.size()) <= max_tokens;
    const bool known = std::all_of(ids.begin(), ids.end(),
                                   [&](int32_t id) { return id >= 0 && id < config.vocab_size; });
    if (fits && known) prompts.push_back(std::move(ids));
  }
  return prompts;
}

// The index-th random prompt, behind those before it.
std::vector<int32_t> RandomPrompt(int index, const Prompts& before, int vocab_size, int max_tokens,
                                  Random& random) {
  const int num_telling = static_cast<int>(std::size(kTellingLengths));
  const int wanted =
      index < num_telling ? kTellingLengths[index] : 1 + random.Below(1 + random.Below(max_tokens));
  std::vector<int32_t> ids = random.Ids(vocab_size, std::min(wanted, max_tokens));
  if (index % 4 != 3 || before.empty()) return ids;
  const std::vector<int32_t>& other = before[random.Below(static_cast<int>(before.size()))];
  const int shared = std::min(kSharedLengths[index / 4 % std::size(kSharedLengths)],
                              static_cast<int>(other.size()));
  ids.insert(ids.begin(), other.begin(), other.begin() + shared);
  ids.resize(std::min<size_t>(ids.size(), max_tokens));
  return ids;
}

// Kinds of sampling; all but one at the temperature at which acceptance of drafts is reported.
SamplingParams SeededSampling(int index, int vocab_size, Random& random) {
  SamplingParams sampling;
  sampling.temperature = 0.6f;
  sampling.seed = random.Seed();
  switch (index / 4 % 4) {
    case 1:
      sampling.top_p = 0.9f;
      break;
    case 2:
      sampling.top_k = std::min(20, vocab_size);
      sampling.repetition_penalty = 1.1f;
      sampling.presence_penalty = 0.3f;
      sampling.frequency_penalty = 0.2f;
      break;
    case 3:
      sampling.temperature = 1.0f;
      sampling.min_p = 0.02f;
      sampling.logit_bias = {{random.Below(vocab_size), 2.0f}};
      break;
    default:
      break;
  }
  return sampling;
}

StopRules StopRulesFor(int index, const GenerationRequest& request, const ModelConfig& config,
                       const Tokenizer* tokenizer, Random& random) {
  StopRules stop = request.stop;
  if (index % 2 == 0) stop.stop_ids = config.eos_ids;
  if (index % 8 == 3) {
    stop.stop_ids = random.Ids(config.vocab_size, 5);
    stop.min_new_tokens = kMinAnswerTokens;
  }
  if (index % 4 == 1 && tokenizer != nullptr) {
    // Answers often repeat what their prompt says.
    const int32_t id =
        request.prompt_ids[random.Below(static_cast<int>(request.prompt_ids.size()))];
    std::string text = tokenizer->Decode({id}, SpecialTokens::kSkip);
    text.resize(std::min<size_t>(text.size(), kMaxStopStringBytes));
    if (!text.empty()) stop.stop_strings = {std::move(text)};
  }
  return stop;
}

WorkloadRequest MakeRequest(int index, std::vector<int32_t> prompt_ids, int max_new_tokens,
                            const ModelConfig& config, const Tokenizer* tokenizer, Random& random) {
  constexpr int kTopCounts[] = {0, 1, 5};
  WorkloadRequest made;
  GenerationRequest& request = made.greedy;
  request.prompt_ids = std::move(prompt_ids);
  request.stop.max_new_tokens = max_new_tokens;
  request.stop = StopRulesFor(index, request, config, tokenizer, random);
  request.num_top_logprobs = std::min(kTopCounts[index % 3], config.vocab_size);
  if (index % 5 == 3) {
    request.sampling.repetition_penalty = 1.2f;
    request.sampling.frequency_penalty = 0.5f;
  }
  request.tenant = absl::StrCat("tenant-", index % 3);
  request.priority = index % 2;
  if (index % 7 == 6) request.cache_salt = "its own";
  made.seeded = SeededSampling(index, config.vocab_size, random);
  return made;
}

}  // namespace

GenerationRequest Workload::Request(int index, bool seeded, int num_choices) const {
  GenerationRequest request = requests[index].greedy;
  if (seeded) request.sampling = requests[index].seeded;
  request.num_choices = num_choices;
  return request;
}

absl::StatusOr<Workload> MakeWorkload(const std::string& model_dir, const ModelConfig& config,
                                      const WorkloadOptions& options) {
  if (options.num_prompts < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompts is ", options.num_prompts, ", must be at least 1"));
  }
  ASSIGN_OR_RETURN(const int max_new_tokens, AnswerTokens(options, config));
  const int max_prompt = std::min(config.max_positions - max_new_tokens, kLongestPrompt);
  Workload workload;
  Prompts eval_prompts;
  if (FileExists(model_dir + "/tokenizer.json")) {
    ASSIGN_OR_RETURN(workload.tokenizer, Tokenizer::Open(model_dir));
    if (FileExists(model_dir + "/eval.jsonl")) {
      ASSIGN_OR_RETURN(eval_prompts,
                       EvalPrompts(model_dir, *workload.tokenizer, config, max_prompt));
    }
  }
  const Tokenizer* tokenizer = workload.tokenizer.has_value() ? &*workload.tokenizer : nullptr;
  Random random(options.seed);
  Prompts random_prompts;
  for (int i = 0; i < options.num_prompts; ++i) {
    // Half of them, of either parity: what else varies with the index meets both kinds.
    const bool is_from_eval = (i % 4 == 1 || i % 4 == 2) && !eval_prompts.empty();
    std::vector<int32_t> ids;
    if (is_from_eval) {
      ids = eval_prompts[random.Below(static_cast<int>(eval_prompts.size()))];
    } else {
      ids = RandomPrompt(static_cast<int>(random_prompts.size()), random_prompts, config.vocab_size,
                         max_prompt, random);
      random_prompts.push_back(ids);
    }
    const int num_ids = static_cast<int>(ids.size());
    workload.longest_prompt = std::max(workload.longest_prompt, num_ids);
    workload.num_prompt_tokens += num_ids;
    workload.num_from_eval += is_from_eval;
    workload.requests.push_back(
        MakeRequest(i, std::move(ids), max_new_tokens, config, tokenizer, random));
    workload.requests.back().is_from_eval = is_from_eval;
  }
  workload.max_context_tokens = workload.longest_prompt + max_new_tokens;
  GenerationRequest& intruder = workload.intruder;
  intruder.prompt_ids =
      random.Ids(config.vocab_size, workload.max_context_tokens - kMinAnswerTokens);
  intruder.stop.max_new_tokens = kMinAnswerTokens;
  intruder.priority = kIntruderPriority;
  return workload;
}

}  // namespace orrery
