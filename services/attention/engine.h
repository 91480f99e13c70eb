// The loop of one attention rank: requests in, tokens out. One thread owns scheduler, cache and
// step; a second one, the courier, tells listeners that their outbox has news.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Start(parts, options));
//   ASSIGN_OR_RETURN(std::shared_ptr<Outbox> outbox, engine->Submit(std::move(request)));
//   while (!outbox->status()) for (OutputEvent& event : outbox->Next(deadline)) ...
//   engine->Stop();
//
// Every turn of the loop is one step over as many sequences as the scheduler chooses: prompt chunks and
// next tokens side by side. A new request joins the next step, a finished one leaves at once.
//
// A replay continues answers that another rank has begun: what is known of them is computed like a
// prompt, and only what follows is told.
//
// Submit may be called from any thread; it never runs model code. A request whose outbox was
// cancelled is dropped before the next step, or while its step waits for a holder if nobody else is in it,
// and its blocks are freed. A step that fails ends the requests in it with the status; the loop goes
// on.
#ifndef ORRERY_SERVICES_ATTENTION_ENGINE_H_
#define ORRERY_SERVICES_ATTENTION_ENGINE_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "checkpoint/tokenizer.h"
#include "services/attention/admission.h"
#include "services/attention/batch.h"
#include "services/attention/block_pool.h"
#include "services/attention/courier.h"
#include "services/attention/kv_cache.h"
#include "services/attention/outbox.h"
#include "services/attention/rank_metrics.h"
#include "services/attention/scheduler.h"
#include "services/attention/sequence.h"
#include "services/attention/step.h"

namespace orrery {

struct EngineOptions {
  SchedulerOptions scheduler;  // block_tokens and lookahead_tokens are filled in
  // A tenant that is alone may have this many requests beyond those that run. There is room for twice
  // as many, and no tenant gets more than what is left: whoever comes next finds a place. Replays have as
  // many places again, of which anyone may have all: who was admitted once is not refused for fairness.
  int max_waiting_requests = 256;
  // Prompt tokens of waiting requests likewise; 0: four times what the cache holds, at least 262144.
  int64_t max_waiting_tokens = 0;
  // That open requests may hold, as request_bytes.h counts; replays as many again.
  int64_t max_request_bytes = std::numeric_limits<int64_t>::max();
  int max_context_tokens = 0;  // prompt and answer together
  int num_kv_blocks = 0;       // at least what max_context_tokens needs
  bool use_prefix_cache = true;
  // Tokens that the MTP module drafts per sequence and step; 0: off. The model must have been loaded with
  // it.
  int num_draft_tokens = 0;
  // For stop strings; may be null, then they are refused. Outlives the engine.
  const Tokenizer* tokenizer = nullptr;
  // How long a layer of a step waits for the holders of an expert.
  absl::Duration expert_timeout = absl::Seconds(30);
};

// Since the start, or now.
struct EngineLoad {
  int num_running = 0;  // sequences
  int num_waiting = 0;
  int num_kv_blocks = 0;
  int num_free_kv_blocks = 0;    // cached ones included
  int num_cached_kv_blocks = 0;  // used by nobody, but they hold a known prefix
  int num_leaked_kv_blocks = 0;  // references that no sequence owns: 0, or a bug
  int64_t tokens_in = 0;
  int64_t tokens_out = 0;
  int64_t prefix_hit_tokens = 0;
  int64_t prefix_miss_tokens = 0;
  int64_t kv_evictions = 0;
  int64_t preemptions = 0;
  int64_t drafted_tokens = 0;
  int64_t accepted_draft_tokens = 0;
  int64_t steps = 0;
};

class Engine {
 public:
  // INVALID_ARGUMENT (options that contradict each other, with the numbers), FAILED_PRECONDITION
  // (drafts without a module), RESOURCE_EXHAUSTED (memory).
  static absl::StatusOr<std::unique_ptr<Engine>> Start(const StepParts& parts,
                                                       const EngineOptions& options);
  ~Engine();
  // Of the step that Start makes.
  static StepOptions StepOptionsOf(const EngineOptions& options);

  // INVALID_ARGUMENT (field, value and limit), RESOURCE_EXHAUSTED (see admission.h), ABORTED (a later
  // attempt is here already), UNAVAILABLE (stopping). An earlier attempt that is here ends with ABORTED.
  // on_news, if given, is called after every turn that pushed to the outbox or finished it, by the
  // courier: it may be called before Submit returns, once for several turns, and for nothing; it must not
  // block. Never after Stop.
  absl::StatusOr<std::shared_ptr<Outbox>> Submit(GenerationRequest request,
                                                 std::function<void()> on_news = nullptr);
  EngineLoad load() const;
  // Of its steps. The heartbeat rests while there is nothing to do.
  const RankMetrics& metrics() const { return metrics_; }
  // Ends all requests with UNAVAILABLE, tells so, and ends the loop. Idempotent.
  void Stop();

 private:
  // One sequence's part of a turn.
  struct Part {
    Sequence* sequence = nullptr;
    int row_begin = 0;
    int num_rows = 0;
    int first_position = 0;
    int first_logit = 0;  // index of its first row of log-probabilities
    int num_logits = 0;   // 1 and a row per draft; 0 while the prompt goes on
    // Another choice's, which computed the rows; null: its own.
    const Sequence* prompt_of = nullptr;
    std::optional<AnswerEnd> end;
  };
  struct Tenant {
    int64_t credit = 0;
    int num_sequences = 0;
  };

  Engine(const StepParts& parts, const EngineOptions& options);

  // engine_check.cc: what is refused.
  static absl::Status CheckOptions(const Model& model, const EngineOptions& options);
  absl::Status Validate(const GenerationRequest& request) const;

  // engine.cc: requests in and out, who steps.
  void Loop();
  // False when stopping. Otherwise there is something to do.
  bool TakeRequests();
  void Open(std::shared_ptr<OpenRequest> request);
  // Called with the lock: a place for the request, or why there is none.
  absl::Status TakePlace(const std::shared_ptr<OpenRequest>& request);
  // OK, or why nobody wants it any more: superseded, cancelled, or past its deadline.
  static absl::Status WhyUnwanted(const OpenRequest& request, absl::Time now);
  void DropUnwanted();
  StepPlan Plan();
  // For the first waiting sequences of each tenant, as many as might be admitted.
  void LookUpPrefixes();
  void Preempt(Sequence& sequence);
  // When a shard was convicted of wrong answers: what stands in the cache may come of others that nobody
  // compared. It is computed again.
  void DropDoubtful();
  // For num_rows rows. False, with nothing changed, if the blocks that it found or needs are gone.
  bool Admit(Sequence& sequence, int num_rows);
  std::vector<Part> Apply(const StepPlan& plan);
  void EndChoice(Sequence& sequence, const AnswerEnd& end);
  // All choices of a request.
  void EndRequest(const std::shared_ptr<OpenRequest>& request, const absl::Status& status);
  void Remove(Sequence& sequence);
  void Push(const OpenRequest& request, std::vector<OutputEvent> events);
  // To the listeners of what was pushed or finished since. At once, so that the courier wakes up once.
  void TellNews();
  // The load as it is now, and then the requests that have ended.
  void Publish();

  // engine_turn.cc: what one step computes, and what follows from it.
  void RunTurn(std::vector<Part>& parts);
  Batch MakeBatch(std::vector<Part>& parts) const;
  // Its way to the shards, how long it waits for them, and when nobody wants it any more.
  void SetExchange(absl::Span<const Part> parts, Batch& batch) const;
  // Where a first choice has its first token, the others of the request draw theirs from the same row.
  void AddOtherChoices(std::vector<Part>& parts);
  // The next tokens: drawn from the step's log-probabilities, drafts verified.
  void Sample(Part& part, std::vector<OutputEvent>& events);
  absl::Status Draft(absl::Span<const Part> parts);
  int NumDraftsFor(const Part& part) const;
  void TakeDrafts(absl::Span<Sequence* const> drafting);
  // What was computed can be found, or continued from, from now on.
  void Commit(const Part& part);
  // `other` continues behind the prompt that `first` has computed: at once if there is room, else it
  // waits like any other.
  void Fork(const Sequence& first, Sequence& other);
  bool HasRoomFor(const Sequence& choice) const;
  void Fail(absl::Span<const Part> parts, const absl::Status& status);

  RankMetrics metrics_;
  const StepParts parts_;  // with these metrics
  const EngineOptions options_;
  const ModelConfig& config_;

  // The loop's.
  std::unique_ptr<Step> step_;
  KvCache cache_;
  BlockPool pool_;
  std::map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::map<std::string, Tenant> tenants_;
  SequenceId next_id_ = 1;
  int num_convictions_ = 0;  // of the step, up to the last turn
  EngineLoad counters_;
  std::vector<std::pair<std::shared_ptr<OpenRequest>, absl::Status>> ended_;
  std::vector<std::shared_ptr<Outbox>> with_news_;  // that listeners wait for

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  // Guarded by mutex_.
  std::vector<std::shared_ptr<OpenRequest>> inbox_;
  Admission admission_;
  // What requests hold that have ended; their outboxes may outlive the engine.
  const std::shared_ptr<std::atomic<int64_t>> unread_bytes_ =
      std::make_shared<std::atomic<int64_t>>(0);
  const std::shared_ptr<std::atomic<int64_t>> unread_replay_bytes_ =
      std::make_shared<std::atomic<int64_t>>(0);
  std::map<std::string, std::shared_ptr<OpenRequest>> by_id_;  // the last attempt of each
  EngineLoad load_;
  bool stopping_ = false;

  std::atomic<bool> give_up_ = false;  // as stopping_, for a step that waits
  Courier courier_;
  std::thread loop_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_ENGINE_H_
