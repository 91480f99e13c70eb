#include "tools/flags/sampling_flags.h"

#include <cstdint>
#include <string>

#include "absl/flags/flag.h"

ABSL_FLAG(std::string, model_name, "", "name of the model; empty: the only one");
ABSL_FLAG(int, max_new_tokens, 0, "longest answer; 0: as long as the context allows");
ABSL_FLAG(double, temperature, 0.0, "0: always the most likely token; at most 2");
ABSL_FLAG(int64_t, seed, -1, "makes a sampled answer repeatable; negative: another one each time");
ABSL_FLAG(absl::Duration, timeout, absl::Minutes(10), "how long an answer may take");

namespace orrery {

v1::GenerateRequest RequestFromFlags() {
  v1::GenerateRequest request;
  request.set_model(absl::GetFlag(FLAGS_model_name));
  request.set_max_new_tokens(absl::GetFlag(FLAGS_max_new_tokens));
  request.set_temperature(static_cast<float>(absl::GetFlag(FLAGS_temperature)));
  if (const int64_t seed = absl::GetFlag(FLAGS_seed); seed >= 0) {
    request.set_seed(static_cast<uint64_t>(seed));
  }
  return request;
}

}  // namespace orrery
