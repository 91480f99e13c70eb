#include "services/router/sequence_request.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

void FillStops(const ServedModel& model, const v1::GenerateRequest& request,
               internal::SequenceRequest& sequence) {
  auto& stop_ids = *sequence.mutable_stop_ids();
  if (!request.ignore_eos()) {
    stop_ids.Add(model.config.eos_ids.begin(), model.config.eos_ids.end());
  }
  for (const int32_t id : request.stop_ids()) {
    if (std::find(stop_ids.begin(), stop_ids.end(), id) == stop_ids.end()) stop_ids.Add(id);
  }
  *sequence.mutable_stop_strings() = request.stop();
  for (const std::optional<int32_t>& marker : {model.markers.open, model.markers.close}) {
    if (marker.has_value()) sequence.add_silent_ids(*marker);
  }
  sequence.set_min_new_tokens(request.min_new_tokens());
}

void FillSampling(const v1::GenerateRequest& request, internal::Sampling& sampling) {
  sampling.set_temperature(request.temperature());
  sampling.set_seed(request.has_seed() ? request.seed() : DrawSeed());
  sampling.set_top_k(request.top_k());
  sampling.set_top_p(request.top_p());
  sampling.set_min_p(request.min_p());
  sampling.set_repetition_penalty(request.repetition_penalty());
  sampling.set_presence_penalty(request.presence_penalty());
  sampling.set_frequency_penalty(request.frequency_penalty());
  *sampling.mutable_logit_bias() = request.logit_bias();
}

}  // namespace

internal::SequenceRequest MakeSequenceRequest(const ServedModel& model,
                                              const v1::GenerateRequest& request,
                                              const Prompt& prompt,
                                              const SequenceOptions& options) {
  internal::SequenceRequest sequence;
  sequence.set_request_id(options.request_id);
  sequence.mutable_prompt_ids()->Add(prompt.ids.begin(), prompt.ids.end());
  sequence.set_max_new_tokens(prompt.max_new_tokens);
  FillStops(model, request, sequence);
  FillSampling(request, *sequence.mutable_sampling());
  sequence.set_num_top_logprobs(request.num_top_logprobs());
  sequence.set_num_choices(std::max(1, request.num_choices()));
  sequence.set_tenant(request.tenant());
  sequence.set_priority(request.priority());
  // The prefix keeps every tenant's salt apart from the common one, whatever tenants call themselves.
  sequence.set_cache_salt(options.share_prefix_cache ? "shared"
                                                     : absl::StrCat("tenant:", request.tenant()));
  return sequence;
}

uint64_t DrawSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace orrery
