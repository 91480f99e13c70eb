// One turn of the loop: a step over the sequences that were chosen, their next tokens, the next
// drafts, and what of it is kept.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/time/clock.h"
#include "base/fault_point.h"
#include "services/attention/engine.h"

namespace orrery {

void Engine::RunTurn(std::vector<Part>& parts) {
  const Batch batch = MakeBatch(parts);
  const absl::Time begin = absl::Now();
  const absl::Status stepped = step_->Run(batch, cache_, /*probe=*/nullptr);
  if (!stepped.ok()) return Fail(parts, stepped);
  // A shard was convicted meanwhile. The step was computed again without it, but upon a cache in which it had a part:
  // nothing of that is told, and everybody is set back (DropDoubtful).
  if (step_->num_convictions() != num_convictions_) return;
  ++counters_.steps;
  metrics_.step_seconds.Observe(absl::ToDoubleSeconds(absl::Now() - begin));
  metrics_.step_rows.Observe(batch.num_rows());
  PassFaultPoint(FaultPoint::kBeforeCommit);
  for (const Part& part : parts) {
    if (part.sequence->asked().is_replay()) PassFaultPoint(FaultPoint::kInReplay);
  }

  AddOtherChoices(parts);
  // By request, so that a reader wakes up once. Tokens leave before drafts are made: nobody should
  // wait for those.
  std::map<OpenRequest*, std::vector<OutputEvent>> events;
  for (Part& part : parts) Sample(part, events[part.sequence->request.get()]);
  for (auto& [request, of_request] : events) {
    if (!of_request.empty()) Push(*request, std::move(of_request));
  }
  TellNews();

  const absl::Status drafted = options_.num_draft_tokens > 0 ? Draft(parts) : absl::OkStatus();
  if (drafted.ok()) {
    for (const Part& part : parts) Commit(part);
  }
  for (const Part& part : parts) {
    if (part.end.has_value()) EndChoice(*part.sequence, *part.end);
  }
  if (!drafted.ok()) {
    std::erase_if(parts, [](const Part& part) { return part.end.has_value(); });
    Fail(parts, drafted);
  }
}

Batch Engine::MakeBatch(std::vector<Part>& parts) const {
  Batch batch;
  for (Part& part : parts) {
    const Sequence& sequence = *part.sequence;
    part.row_begin = batch.num_rows();
    const int end = part.first_position + part.num_rows;
    const int known_end = std::min(end, sequence.num_tokens());
    batch.ids.insert(batch.ids.end(), sequence.ids.begin() + part.first_position,
                     sequence.ids.begin() + known_end);
    batch.ids.insert(batch.ids.end(), sequence.drafts.begin(),
                     sequence.drafts.begin() + (end - known_end));
    batch.spans.push_back(
        {.row_begin = part.row_begin,
         .num_rows = part.num_rows,
         .first_position = part.first_position,
         .num_cached_rows = std::max(0, sequence.num_stored - part.first_position),
         .block_ids = sequence.blocks.ids});
    part.first_logit = static_cast<int>(batch.logit_rows.size());
    part.num_logits = std::max(0, end - sequence.num_tokens() + 1);
    for (int row = part.num_rows - part.num_logits; row < part.num_rows; ++row) {
      batch.logit_rows.push_back(part.row_begin + row);
    }
  }
  SetExchange(parts, batch);
  return batch;
}

void Engine::SetExchange(absl::Span<const Part> parts, Batch& batch) const {
  for (const SequenceRows& span : batch.spans) {
    if (span.num_rows > 1 + options_.num_draft_tokens) batch.lane = Lane::kBulk;
  }
  batch.expert_timeout = options_.expert_timeout;
  std::vector<std::shared_ptr<OpenRequest>> requests;
  for (const Part& part : parts) requests.push_back(part.sequence->request);
  batch.abandoned = [this, requests = std::move(requests)] {
    const absl::Time now = absl::Now();
    return give_up_ || std::all_of(requests.begin(), requests.end(), [now](const auto& request) {
             return !WhyUnwanted(*request, now).ok();
           });
  };
}

void Engine::AddOtherChoices(std::vector<Part>& parts) {
  for (size_t i = 0, num_stepped = parts.size(); i < num_stepped; ++i) {
    if (parts[i].num_logits == 0) continue;
    // They were opened together, so they stand right behind the first.
    const SequenceId first = parts[i].sequence->id;
    const OpenRequest* request = parts[i].sequence->request.get();
    for (auto it = sequences_.upper_bound(first);
         it != sequences_.end() && it->second->request.get() == request; ++it) {
      if (!it->second->waits_for_prompt) break;
      it->second->TakeKnownIds();
      if (request->asked.is_replay()) {
        it->second->waits_for_prompt = false;
        continue;
      }
      parts.push_back(parts[i]);
      parts.back().sequence = it->second.get();
      parts.back().prompt_of = parts[i].sequence;
    }
  }
}

void Engine::Sample(Part& part, std::vector<OutputEvent>& events) {
  Sequence& sequence = *part.sequence;
  const int num_drafts = std::max(0, part.num_logits - 1);
  // What stands in the cache for good: all but the drafts, and of those the ones that come true.
  sequence.num_computed = part.first_position + part.num_rows - num_drafts;
  sequence.drafted_tokens += num_drafts;
  counters_.drafted_tokens += num_drafts;
  if (num_drafts > 0) PassFaultPoint(FaultPoint::kInVerification);
  std::vector<OutputToken> released;
  for (int i = 0; i < part.num_logits; ++i) {
    const absl::Span<const float> logprobs = step_->logprobs(part.first_logit + i);
    OutputToken output;
    output.choice = sequence.choice;
    output.token = sequence.sampler.Sample({logprobs, step_->log_normalizer(part.first_logit + i)},
                                           sequence.answer.banned_ids());
    output.top = TopLogprobs(logprobs, sequence.asked().num_top_logprobs);
    const int32_t id = output.token.id;
    sequence.sampler.Append(id);
    sequence.ids.push_back(id);
    ++counters_.tokens_out;
    part.end = sequence.answer.Append(std::move(output), released);
    if (part.end.has_value() || i == num_drafts || id != sequence.drafts[i]) break;
    ++sequence.num_computed;
    ++sequence.accepted_tokens;
    ++counters_.accepted_draft_tokens;
  }
  sequence.num_stored = sequence.num_computed;
  sequence.drafts.clear();
  for (OutputToken& token : released) events.push_back(std::move(token));
}

absl::Status Engine::Draft(absl::Span<const Part> parts) {
  MtpBatch batch;
  std::vector<Sequence*> drafting;
  for (const Part& part : parts) {
    Sequence& sequence = *part.sequence;
    if (part.prompt_of != nullptr) continue;
    // The module's rows stand one position behind those of the step, whose hidden states they take.
    const int num_rows = sequence.num_computed - part.first_position;
    batch.rows.spans.push_back({.row_begin = batch.rows.num_rows(),
                                .num_rows = num_rows,
                                .first_position = part.first_position + 1,
                                .block_ids = sequence.blocks.ids});
    for (int i = 0; i < num_rows; ++i) {
      batch.rows.ids.push_back(sequence.ids[part.first_position + 1 + i]);
      batch.hidden_rows.push_back(part.row_begin + i);
    }
    if (part.num_logits == 0 || NumDraftsFor(part) == 0) continue;
    batch.rows.logit_rows.push_back(batch.rows.num_rows() - 1);
    drafting.push_back(&sequence);
  }
  SetExchange(parts, batch.rows);
  RETURN_IF_ERROR(step_->Draft(batch, cache_, /*probe=*/nullptr));
  TakeDrafts(drafting);
  for (int depth = 1; depth < options_.num_draft_tokens; ++depth) {
    MtpBatch next;
    next.source = MtpBatch::Source::kDraft;
    std::vector<Sequence*> still;
    for (size_t i = 0; i < drafting.size(); ++i) {
      Sequence& sequence = *drafting[i];
      if (sequence.answer.num_tokens() + depth + 1 >= sequence.asked().stop.max_new_tokens)
        continue;
      const int row = next.rows.num_rows();
      next.rows.spans.push_back({.row_begin = row,
                                 .num_rows = 1,
                                 .first_position = sequence.num_computed + depth,
                                 .block_ids = sequence.blocks.ids});
      next.rows.ids.push_back(sequence.drafts.back());
      next.rows.logit_rows.push_back(row);
      next.hidden_rows.push_back(batch.rows.logit_rows[i]);
      still.push_back(&sequence);
    }
    if (still.empty()) break;
    SetExchange(parts, next.rows);
    RETURN_IF_ERROR(step_->Draft(next, cache_, /*probe=*/nullptr));
    TakeDrafts(still);
    batch = std::move(next);
    drafting = std::move(still);
  }
  for (const Part& part : parts) {
    for (size_t i = 0; i < part.sequence->drafts.size(); ++i) part.sequence->sampler.RemoveLast();
  }
  return absl::OkStatus();
}

int Engine::NumDraftsFor(const Part& part) const {
  if (part.end.has_value()) return 0;
  // The last token needs no draft: its row would have nobody to verify it for.
  const Sequence& sequence = *part.sequence;
  const int num_left = sequence.asked().stop.max_new_tokens - sequence.answer.num_tokens();
  return std::min(options_.num_draft_tokens, num_left - 1);
}

void Engine::TakeDrafts(absl::Span<Sequence* const> drafting) {
  for (size_t i = 0; i < drafting.size(); ++i) {
    Sequence& sequence = *drafting[i];
    const LogprobRow row = {step_->logprobs(i), step_->log_normalizer(i)};
    const int32_t id = sequence.sampler.Sample(row, sequence.answer.banned_ids()).id;
    sequence.sampler.Append(id);
    sequence.drafts.push_back(id);
  }
}

void Engine::Commit(const Part& part) {
  Sequence& sequence = *part.sequence;
  if (part.prompt_of == nullptr) {
    pool_.Publish(sequence.asked().cache_salt, sequence.ids, sequence.num_computed,
                  sequence.blocks);
  } else if (!part.end.has_value()) {
    Fork(*part.prompt_of, sequence);
  }
}

void Engine::Fork(const Sequence& first, Sequence& other) {
  const int num_prompt = other.num_prompt();
  other.waits_for_prompt = false;
  other.num_computed = other.num_stored = 0;
  if (!HasRoomFor(other)) return;
  const std::optional<BlockPool::Copy> copy = pool_.Fork(first.blocks, num_prompt, other.blocks);
  if (!copy.has_value()) return;
  if (copy->to >= 0) cache_.CopyBlock(copy->from, copy->to, *parts_.stream);
  other.running = true;
  other.num_stored = num_prompt;
  // With drafts the last token of the prompt is computed once more: the module wants its hidden state
  // beside the first token of this answer.
  other.num_computed = options_.num_draft_tokens > 0 ? num_prompt - 1 : num_prompt;
}

// As PlanStep admits: behind those that wait and come first, and with a block to spare for every
// running sequence.
bool Engine::HasRoomFor(const Sequence& choice) const {
  const auto num_blocks = [this](const Sequence& sequence) {
    return KvCache::BlocksFor(sequence.num_tokens() + static_cast<int>(sequence.drafts.size()) +
                              options_.scheduler.lookahead_tokens);
  };
  int num_running = 1;
  int num_needed = num_blocks(choice) - choice.num_prompt() / kKvBlockTokens;
  for (const auto& [id, other] : sequences_) {
    if (other->running) {
      const int num_missing = num_blocks(*other) - static_cast<int>(other->blocks.ids.size());
      num_needed += std::max(0, num_missing);
      ++num_running;
    } else if (!other->waits_for_prompt && other.get() != &choice) {
      const int more = other->asked().tenant == choice.asked().tenant
                           ? other->asked().priority - choice.asked().priority
                           : 0;
      if (more > 0 || (more == 0 && id < choice.id)) return false;
    }
  }
  return num_running <= options_.scheduler.max_running &&
         num_needed + num_running <= pool_.num_free();
}

void Engine::Fail(absl::Span<const Part> parts, const absl::Status& status) {
  if (give_up_) return;  // all that is left ends with the loop
  std::set<std::shared_ptr<OpenRequest>> failed;
  for (const Part& part : parts) failed.insert(part.sequence->request);
  for (const std::shared_ptr<OpenRequest>& request : failed) {
    const absl::Status unwanted = WhyUnwanted(*request, absl::Now());
    EndRequest(request, unwanted.ok() ? status : unwanted);
  }
}

}  // namespace orrery
