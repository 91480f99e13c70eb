#include "tools/flags/sampling_flags.h"

#include <cstdint>
#include <string>

#include "absl/flags/flag.h"
#include "tools/flags/list_flags.h"
#include "tools/flags/seed_flag.h"

ABSL_FLAG(std::string, model_name, "", "name of the model; empty: the only one");
ABSL_FLAG(int, max_new_tokens, 0, "longest answer; 0: as long as the context allows");
ABSL_FLAG(int, min_new_tokens, 0, "no stop before so many tokens");
ABSL_FLAG(double, temperature, 0.0, "0: always the most likely token; at most 2");
ABSL_FLAG(int, top_k, 0, "draw from the so many most likely tokens; 0: from all");
ABSL_FLAG(double, top_p, 0.0, "draw from the most likely tokens that make up this share; 0: all");
ABSL_FLAG(double, min_p, 0.0, "draw from tokens at least so likely, the most likely being 1");
ABSL_FLAG(
    double, repetition_penalty, 0.0,
    "divides positive logits of tokens that occurred, multiplies negative ones; above 1 makes "
    "them rarer; 0: off");
ABSL_FLAG(double, presence_penalty, 0.0, "subtracted from logits of tokens in the answer, once");
ABSL_FLAG(double, frequency_penalty, 0.0, "subtracted from logits, per occurrence in the answer");
ABSL_FLAG(orrery::LogitBias, logit_bias, {},
          "added to logits: ID:VALUE,...; -100 bans a token, 100 all others");
ABSL_FLAG(orrery::StopStrings, stop, {},
          "strings that end the answer, between commas; \\n, \\t, \\, and \\\\ are understood");
ABSL_FLAG(orrery::TokenIdList, stop_ids, {},
          "ids that end the answer, between commas, beside the model's own");
ABSL_FLAG(bool, ignore_eos, false, "the model's own end ids do not end the answer");
ABSL_FLAG(std::string, tenant, "", "on whose account; tenants share the cluster fairly");
ABSL_FLAG(int, priority, 0, "among the requests of a tenant, -100 to 100, higher first");
ABSL_FLAG(absl::Duration, timeout, absl::Minutes(10), "how long an answer may take");

namespace orrery {
namespace {

float GetFloat(const absl::Flag<double>& flag) { return static_cast<float>(absl::GetFlag(flag)); }

void FillSampling(v1::GenerateRequest& request) {
  request.set_temperature(GetFloat(FLAGS_temperature));
  if (const int64_t seed = absl::GetFlag(FLAGS_seed); seed >= 0) {
    request.set_seed(static_cast<uint64_t>(seed));
  }
  request.set_top_k(absl::GetFlag(FLAGS_top_k));
  request.set_top_p(GetFloat(FLAGS_top_p));
  request.set_min_p(GetFloat(FLAGS_min_p));
  request.set_repetition_penalty(GetFloat(FLAGS_repetition_penalty));
  request.set_presence_penalty(GetFloat(FLAGS_presence_penalty));
  request.set_frequency_penalty(GetFloat(FLAGS_frequency_penalty));
  const LogitBias bias = absl::GetFlag(FLAGS_logit_bias);
  request.mutable_logit_bias()->insert(bias.biases.begin(), bias.biases.end());
}

void FillStops(v1::GenerateRequest& request) {
  request.set_max_new_tokens(absl::GetFlag(FLAGS_max_new_tokens));
  request.set_min_new_tokens(absl::GetFlag(FLAGS_min_new_tokens));
  const StopStrings stop = absl::GetFlag(FLAGS_stop);
  request.mutable_stop()->Add(stop.strings.begin(), stop.strings.end());
  const TokenIdList stop_ids = absl::GetFlag(FLAGS_stop_ids);
  request.mutable_stop_ids()->Add(stop_ids.ids.begin(), stop_ids.ids.end());
  request.set_ignore_eos(absl::GetFlag(FLAGS_ignore_eos));
}

}  // namespace

v1::GenerateRequest RequestFromFlags() {
  v1::GenerateRequest request;
  request.set_model(absl::GetFlag(FLAGS_model_name));
  FillSampling(request);
  FillStops(request);
  request.set_tenant(absl::GetFlag(FLAGS_tenant));
  request.set_priority(absl::GetFlag(FLAGS_priority));
  return request;
}

}  // namespace orrery
