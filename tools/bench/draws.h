// Everything random about a load, from a seed alone: when requests arrive, how long they are, what
// their prompts say, when clients go away. The same seed gives the same load on every machine.
//
//   LoadDraws draws(load, {.seed = 7, .stream = 0}, token_pool);
//   absl::Duration gap = draws.Gap(12);        // between the arrivals of requests 11 and 12
//   RequestShape shape = draws.Shape(12);      // of request 12
//
// Pure. Threads: safe for concurrent use.
#ifndef ORRERY_TOOLS_BENCH_DRAWS_H_
#define ORRERY_TOOLS_BENCH_DRAWS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tools/bench/load.h"

namespace orrery {

struct RequestShape {
  std::vector<int32_t> prompt;
  int output_tokens = 0;
  uint64_t seed = 0;
  // Zero for clients that stay.
  absl::Duration disconnect_after;
};

// Prompt ids are drawn from `token_pool`, which must not be empty.
class LoadDraws {
 public:
  struct Key {
    uint64_t seed = 0;
    uint32_t stream = 0;  // numbers the loads of a phase
  };
  // Both passed by pointer must outlive it.
  LoadDraws(const Load* load, const Key& key, const std::vector<int32_t>* token_pool)
      : load_(load), key_(key), pool_(token_pool) {}

  // Open loop: exponential with the rate's mean, or that mean itself if arrivals are regular.
  absl::Duration Gap(uint32_t request) const;
  RequestShape Shape(uint32_t request) const;

 private:
  const Load* const load_;
  const Key key_;
  const std::vector<int32_t>* const pool_;
};

// `num_tokens` ids of the pool, the common prefix with this number.
std::vector<int32_t> PrefixIds(uint64_t seed, uint32_t prefix, int num_tokens,
                               const std::vector<int32_t>& token_pool);

// A text of so many words of letters and digits. Its ids are a pool of ordinary ones: no special
// token is in them.
std::string RandomText(uint64_t seed, int num_words);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_DRAWS_H_
