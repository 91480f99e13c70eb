// The loop of one attention rank: requests in, tokens out. One thread owns scheduler, cache and
// step.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Start(parts, options));
//   ASSIGN_OR_RETURN(std::shared_ptr<Outbox> outbox, engine->Submit(std::move(request)));
//   while (auto token = outbox->Next(deadline)) ...
//   engine->Stop();
//
// Submit may be called from any thread; it never runs model code. A sequence whose outbox was
// cancelled is dropped before the next step, or while its step waits for a holder, and its blocks
// are freed. A step that fails ends its sequence with the status; the loop goes on.
#ifndef ORRERY_SERVICES_ATTENTION_ENGINE_H_
#define ORRERY_SERVICES_ATTENTION_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "services/attention/kv_cache.h"
#include "services/attention/outbox.h"
#include "services/attention/sampler.h"
#include "services/attention/scheduler.h"
#include "services/attention/step.h"

namespace orrery {

// One sequence to generate.
struct GenerationRequest {
  std::vector<int32_t> prompt_ids;  // not empty
  int max_new_tokens = 0;           // at least 1
  std::vector<int32_t> stop_ids;    // the answer ends with the first of these
  SamplingParams sampling;
  int num_top_logprobs = 0;
  absl::Time deadline = absl::InfiniteFuture();
};

struct EngineOptions {
  Scheduler::Options scheduler;
  int max_context_tokens = 0;  // prompt and answer together
  int num_kv_blocks = 0;       // at least what max_context_tokens needs
  // How long a step waits for the holders of an expert.
  absl::Duration expert_timeout = absl::Seconds(30);
};

struct EngineLoad {
  int num_running = 0;
  int num_waiting = 0;
  int num_kv_blocks = 0;
  int num_free_kv_blocks = 0;
  int64_t tokens_in = 0;
  int64_t tokens_out = 0;
};

class Engine {
 public:
  static absl::StatusOr<std::unique_ptr<Engine>> Start(const StepParts& parts,
                                                       const EngineOptions& options);
  ~Engine();

  // INVALID_ARGUMENT (ids outside the vocabulary, context limit; with the numbers),
  // RESOURCE_EXHAUSTED (queue full), UNAVAILABLE (stopping).
  absl::StatusOr<std::shared_ptr<Outbox>> Submit(GenerationRequest request);
  EngineLoad load() const;
  // Ends all sequences with UNAVAILABLE and the loop. Idempotent.
  void Stop();

 private:
  struct Sequence {
    GenerationRequest request;
    std::vector<int32_t> ids;  // prompt and answer so far
    int num_generated = 0;
    std::vector<int32_t> block_ids;
    std::shared_ptr<Outbox> outbox;
  };

  Engine(const EngineOptions& options, const ModelConfig& config)
      : options_(options), config_(config), scheduler_(options.scheduler) {}
  absl::Status Validate(const GenerationRequest& request) const;
  void Loop();
  // What to do next; waits for work. False when stopping.
  bool Next(Scheduler::Decision& decision, Sequence*& sequence);
  // Why a sequence should not go on: cancelled, or past its deadline. OK if it should.
  static absl::Status DropReason(const Sequence& sequence);
  void DropCancelled() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One step of one sequence, and what follows from it.
  void RunStep(const Scheduler::Decision& decision, Sequence& sequence);
  void Commit(const Scheduler::Decision& decision, Sequence& sequence);
  void End(SequenceId id, absl::StatusOr<EndReason> end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const EngineOptions options_;
  const ModelConfig& config_;
  std::unique_ptr<Step> step_;  // loop only

  mutable absl::Mutex mutex_;
  // Block lists change under the lock; contents belong to the loop.
  KvCache cache_ ABSL_GUARDED_BY(mutex_);
  Scheduler scheduler_ ABSL_GUARDED_BY(mutex_);
  std::map<SequenceId, Sequence> sequences_ ABSL_GUARDED_BY(mutex_);  // elements belong to the loop
  SequenceId next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t tokens_in_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t tokens_out_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<bool> give_up_ = false;  // as stopping_, for a step that waits
  std::thread loop_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_ENGINE_H_
