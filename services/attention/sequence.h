// What the engine's loop knows of the requests that it runs. Belongs to the loop.
//
//   request: one prompt, its outbox, its choices that have not ended
//   sequence: one choice: ids so far, blocks, sampler, answer
//
//   ids        [ prompt .................... | answer ....... ]
//   computed   [=========================================]        num_computed: where the next step begins
//   stored     [==========================================]       num_stored: rows that stand in the cache
//   drafts                                                [d d]   ids to be verified behind the last one
//
// A replay starts with all that is known of its answers; to the loop that is one prompt.
//
// The last two differ only where the last token of what is stored is computed once more, for its hidden
// state: behind a cached prefix, and with drafts behind a prompt that another choice has computed.
#ifndef ORRERY_SERVICES_ATTENTION_SEQUENCE_H_
#define ORRERY_SERVICES_ATTENTION_SEQUENCE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "services/attention/admission.h"
#include "services/attention/answer_stream.h"
#include "services/attention/block_pool.h"
#include "services/attention/outbox.h"
#include "services/attention/sampler.h"
#include "services/attention/scheduler.h"

namespace orrery {

// What is known of one choice when a request is replayed.
struct ChoiceSoFar {
  std::vector<int32_t> ids;
  bool has_ended = false;  // then nothing of it is wanted
};

// One prompt, and the answers to generate.
struct GenerationRequest {
  std::vector<int32_t> prompt_ids;  // not empty
  StopRules stop;
  SamplingParams sampling;
  int num_top_logprobs = 0;
  int num_choices = 1;
  std::string tenant;      // whose share of the rank it uses
  int priority = 0;        // within the tenant; higher first
  std::string cache_salt;  // prefix-cache blocks are shared by equal salts only
  absl::Time deadline = absl::InfiniteFuture();
  // A replay: one per choice, not all of them ended. Else empty.
  std::vector<ChoiceSoFar> so_far;
  // Of two attempts at one request the one with the higher number goes on. No id: nothing is compared.
  std::string request_id;
  uint64_t attempt = 0;

  bool is_replay() const { return !so_far.empty(); }
};

// A request in the engine, shared by its sequences.
struct OpenRequest {
  GenerationRequest asked;
  Admission::Visit visit;
  PromptIds prompt;  // of asked.prompt_ids; empty without a repetition penalty
  std::shared_ptr<Outbox> outbox;
  int num_open_choices = 0;
  std::optional<int> cached_tokens;         // of the prompt, when it was first admitted
  std::atomic<bool> is_superseded = false;  // by a later attempt
};

struct Sequence {
  Sequence(SequenceId id, std::shared_ptr<OpenRequest> request, int choice, bool waits_for_prompt,
           const Tokenizer* tokenizer)
      : id(id),
        request(std::move(request)),
        choice(choice),
        sampler(asked().sampling, choice, num_prompt(), &this->request->prompt),
        answer(&asked().stop, tokenizer),
        waits_for_prompt(waits_for_prompt) {
    for (const int32_t known : ids_so_far()) sampler.Append(known);
    if (!waits_for_prompt) TakeKnownIds();
  }

  absl::Span<const int32_t> ids_so_far() const {
    if (!asked().is_replay()) return {};
    return asked().so_far[choice].ids;
  }
  void TakeKnownIds() {
    ids = asked().prompt_ids;
    ids.insert(ids.end(), ids_so_far().begin(), ids_so_far().end());
  }

  const GenerationRequest& asked() const { return request->asked; }
  int num_tokens() const { return static_cast<int>(ids.size()); }
  int num_prompt() const { return static_cast<int>(asked().prompt_ids.size()); }

  const SequenceId id;
  const std::shared_ptr<OpenRequest> request;
  const int choice;
  std::vector<int32_t> ids;  // empty while it waits for the prompt
  Sampler sampler;
  AnswerStream answer;

  // A choice behind the first waits until the first has computed the prompt, and continues from there; that
  // of a replay behind its own tokens, with what the prefix cache then has of the prompt.
  bool waits_for_prompt;
  bool running = false;
  BlockList blocks;  // while running
  int num_computed = 0;
  int num_stored = 0;
  // Waiting: what the prefix cache was seen to hold, and in which version of the pool.
  PrefixFound found;
  uint64_t found_version = 0;
  std::vector<int32_t> drafts;
  int drafted_tokens = 0;
  int accepted_tokens = 0;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SEQUENCE_H_
