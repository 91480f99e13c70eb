#include "services/attention/sequence_proto.h"

#include <algorithm>
#include <variant>

namespace orrery {
namespace {

SamplingParams FromProto(const internal::Sampling& proto) {
  SamplingParams params;
  params.temperature = proto.temperature();
  params.seed = proto.seed();
  params.top_k = proto.top_k();
  params.top_p = proto.top_p() == 0.0f ? 1.0f : proto.top_p();
  params.min_p = proto.min_p();
  params.repetition_penalty =
      proto.repetition_penalty() == 0.0f ? 1.0f : proto.repetition_penalty();
  params.presence_penalty = proto.presence_penalty();
  params.frequency_penalty = proto.frequency_penalty();
  params.logit_bias.assign(proto.logit_bias().begin(), proto.logit_bias().end());
  std::sort(params.logit_bias.begin(), params.logit_bias.end());
  return params;
}

void ToProto(const OutputToken& output, internal::SequenceToken& token) {
  token.set_id(output.token.id);
  token.set_logprob(output.token.logprob);
  token.set_choice(output.choice);
  token.set_index(output.index);
  if (output.text_bytes.has_value()) token.set_text_bytes(*output.text_bytes);
  for (const IdAndLogprob& alternative : output.top) {
    internal::IdLogprob* top = token.add_top();
    top->set_id(alternative.id);
    top->set_logprob(alternative.logprob);
  }
}

void ToProto(const ChoiceEnd& ended, int prompt_tokens, internal::SequenceEnd& end) {
  end.set_reason(ended.end.reason == EndReason::kStop ? internal::END_REASON_STOP
                                                      : internal::END_REASON_LENGTH);
  end.set_stop_string(ended.end.stop_string);
  end.set_choice(ended.choice);
  end.set_prompt_tokens(prompt_tokens);
  end.set_output_tokens(ended.num_tokens);
  end.set_cached_prompt_tokens(ended.cached_tokens);
  end.set_drafted_tokens(ended.drafted_tokens);
  end.set_accepted_draft_tokens(ended.accepted_tokens);
}

}  // namespace

GenerationRequest FromProto(const internal::SequenceRequest& proto) {
  GenerationRequest request;
  request.prompt_ids.assign(proto.prompt_ids().begin(), proto.prompt_ids().end());
  request.stop = {.max_new_tokens = proto.max_new_tokens(),
                  .min_new_tokens = proto.min_new_tokens(),
                  .stop_ids = {proto.stop_ids().begin(), proto.stop_ids().end()},
                  .stop_strings = {proto.stop_strings().begin(), proto.stop_strings().end()},
                  .silent_ids = {proto.silent_ids().begin(), proto.silent_ids().end()}};
  request.sampling = FromProto(proto.sampling());
  request.num_top_logprobs = proto.num_top_logprobs();
  request.num_choices = proto.num_choices() == 0 ? 1 : proto.num_choices();
  request.tenant = proto.tenant();
  request.priority = proto.priority();
  request.cache_salt = proto.cache_salt();
  for (const internal::ChoiceSoFar& choice : proto.so_far()) {
    request.so_far.push_back(
        {.ids = {choice.id().begin(), choice.id().end()}, .has_ended = choice.has_ended()});
  }
  request.request_id = proto.request_id();
  request.attempt = proto.attempt();
  return request;
}

void ToProto(const OutputEvent& event, int prompt_tokens, internal::SequenceEvent& proto) {
  proto.Clear();
  if (const OutputToken* token = std::get_if<OutputToken>(&event)) {
    ToProto(*token, *proto.mutable_token());
  } else {
    ToProto(std::get<ChoiceEnd>(event), prompt_tokens, *proto.mutable_end());
  }
}

}  // namespace orrery
