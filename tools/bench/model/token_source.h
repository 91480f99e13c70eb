// Whoever makes tokens, an engine in this process or a cluster of processes, and how long one step takes
// there.
//
//   const std::unique_ptr<TokenSource> source = MakeEngineSource(engine.get());
//   ASSIGN_OR_RETURN(double seconds, SecondsPerStep(*source, {.num_sequences = 8, ...}));
//
// Threads: Generate may be called from several at once.
#ifndef ORRERY_TOOLS_BENCH_MODEL_TOKEN_SOURCE_H_
#define ORRERY_TOOLS_BENCH_MODEL_TOKEN_SOURCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/status.h"
#include "client/orrery_client.h"
#include "services/attention/engine.h"

namespace orrery {

class TokenSource {
 public:
  virtual ~TokenSource() = default;
  // Greedily num_tokens tokens, whatever they are. on_token is called for each; when it returns false,
  // the rest is given up, which is no error.
  virtual absl::Status Generate(const std::vector<int32_t>& prompt, int num_tokens,
                                const std::function<bool()>& on_token) = 0;
};

// Both must outlive the source.
std::unique_ptr<TokenSource> MakeEngineSource(Engine* engine);
std::unique_ptr<TokenSource> MakeClusterSource(OrreryClient* client);

// Prompts are drawn at random, each another.
struct DecodeLoad {
  int num_sequences = 1;
  int prompt_tokens = 0;
  int num_steps = 0;   // that are timed
  int max_tokens = 0;  // prompt and answer: what a sequence may have
  int vocab_size = 0;
  uint64_t seed = 1;
};

// Median time from one token of a sequence to its next, while all sequences run. INVALID_ARGUMENT if
// max_tokens are too few for all to run until the end.
absl::StatusOr<double> SecondsPerStep(TokenSource& source, const DecodeLoad& load);
// From request to first token.
absl::StatusOr<double> SecondsToFirstToken(TokenSource& source, int prompt_tokens, int vocab_size,
                                           uint64_t seed);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_MODEL_TOKEN_SOURCE_H_
