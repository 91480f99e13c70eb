#include <algorithm>
#include <atomic>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "checkpoint/chat_template.h"
#include "checkpoint/tokenizer.h"
#include "services/attention/engine.h"
#include "tools/eval/examinee.h"

namespace orrery {
namespace {

// Asked at the same time: they share steps, and no answer changes by it.
constexpr int kQuestionsPerRank = 16;
constexpr absl::Duration kTokenTimeout = absl::Seconds(60);

class LocalExaminee : public Examinee {
 public:
  LocalExaminee(std::unique_ptr<LocalCluster> cluster, Tokenizer tokenizer,
                ChatTemplate chat_template)
      : cluster_(std::move(cluster)),
        tokenizer_(std::move(tokenizer)),
        chat_template_(std::move(chat_template)) {}

  absl::Status StartEngines() {
    EngineOptions options;
    options.max_context_tokens = cluster_->max_context_tokens();
    options.num_kv_blocks = kQuestionsPerRank * KvCache::BlocksFor(options.max_context_tokens);
    for (int rank = 0; rank < cluster_->num_ranks(); ++rank) {
      ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                       Engine::Start(cluster_->parts(rank), options));
      engines_.push_back(std::move(engine));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ExamAnswer> Ask(const Problem& problem, int max_new_tokens) override {
    ExamAnswer answer;
    ASSIGN_OR_RETURN(const std::vector<PromptPiece> pieces,
                     chat_template_.Render(problem.messages, {}));
    ASSIGN_OR_RETURN(answer.prompt_ids, EncodePieces(tokenizer_, pieces));
    GenerationRequest request;
    request.prompt_ids = answer.prompt_ids;
    request.stop.max_new_tokens = max_new_tokens;
    request.stop.stop_ids = cluster_->config().eos_ids;
    Engine& engine = *engines_[next_rank_++ % engines_.size()];
    ASSIGN_OR_RETURN(const std::shared_ptr<Outbox> outbox, engine.Submit(std::move(request)));
    while (!outbox->status().has_value()) {
      const auto events = outbox->Next(absl::Now() + kTokenTimeout);
      if (events.empty() && !outbox->status().has_value()) {
        outbox->Cancel();
        return absl::DeadlineExceededError(
            absl::StrCat("no token within ", absl::FormatDuration(kTokenTimeout)));
      }
      for (const OutputEvent& event : events) {
        if (const OutputToken* token = std::get_if<OutputToken>(&event)) {
          answer.ids.push_back(token->token.id);
          answer.logprobs.push_back(token->token.logprob);
        } else {
          answer.is_finished = std::get<ChoiceEnd>(event).end.reason == EndReason::kStop;
        }
      }
    }
    RETURN_IF_ERROR(*outbox->status());
    answer.content = Content(answer.ids);
    return answer;
  }

  int num_threads() const override { return kQuestionsPerRank * cluster_->num_ranks(); }
  std::string Describe() const override {
    return absl::StrCat("in this process: ", cluster_->Describe());
  }

 private:
  // What follows the last </think>.
  std::string Content(const std::vector<int32_t>& ids) const {
    auto begin = ids.begin();
    if (const std::optional<int32_t> marker = tokenizer_.TokenId("</think>")) {
      const auto last = std::find(ids.rbegin(), ids.rend(), *marker);
      if (last != ids.rend()) begin = last.base();
    }
    const std::vector<int32_t> content(begin, ids.end());
    const std::string text = tokenizer_.Decode(content, SpecialTokens::kSkip);
    return std::string(absl::StripAsciiWhitespace(text));
  }

  std::unique_ptr<LocalCluster> cluster_;
  Tokenizer tokenizer_;
  ChatTemplate chat_template_;
  std::vector<std::unique_ptr<Engine>> engines_;  // one per rank; end before the cluster
  std::atomic<uint32_t> next_rank_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Examinee>> MakeLocalExaminee(const LocalClusterOptions& options) {
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Open(options.model_dir));
  ASSIGN_OR_RETURN(ChatTemplate chat_template, ChatTemplate::Open(options.model_dir));
  ASSIGN_OR_RETURN(std::unique_ptr<LocalCluster> cluster, LocalCluster::Create(options));
  auto examinee = std::make_unique<LocalExaminee>(std::move(cluster), std::move(tokenizer),
                                                  std::move(chat_template));
  RETURN_IF_ERROR(examinee->StartEngines());
  return examinee;
}

}  // namespace orrery
