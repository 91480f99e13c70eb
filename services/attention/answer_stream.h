// The tokens of one choice in the order in which they may leave, and every decision to stop.
//
//   AnswerStream answer(&rules, tokenizer);
//   std::optional<AnswerEnd> end = answer.Append(token, released);   // 0..n tokens to send now
//
// A token whose bytes may be the beginning of a stop string is held back, with all behind it, until
// that is decided; so less is held than the longest stop string and one token. When a stop string
// is complete the answer ends: the token in which it began says how many of its bytes still belong
// to the text, those behind it have none. Every other end releases what is held in full.
//
//   stop "END"         "The"  " E"   "N"  "DS"        released: all four, after "DS"
//   text_bytes          -      1      0    0          the text is "The "
//
// Bytes of a token are those of the tokenizer. Special tokens and silent ids have none, and no stop
// string reaches across one. The stop string that is complete first counts, of several at one byte the longest: so
// how the text was cut into tokens does not matter.
//
// A stop id ends the answer as a token without text. Threads: the loop's.
#ifndef ORRERY_SERVICES_ATTENTION_ANSWER_STREAM_H_
#define ORRERY_SERVICES_ATTENTION_ANSWER_STREAM_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "checkpoint/tokenizer.h"
#include "services/attention/sampler.h"

namespace orrery {

inline constexpr int kMaxStopStrings = 16;
inline constexpr int kMaxStopStringBytes = 256;
inline constexpr int kMaxStopIds = 128;  // 64 of the client, and the model's own
inline constexpr int kMaxSilentIds = 64;

struct StopRules {
  int max_new_tokens = 0;                 // at least 1
  int min_new_tokens = 0;                 // no stop id or stop string ends a shorter answer
  std::vector<int32_t> stop_ids;          // in any order
  std::vector<std::string> stop_strings;  // none is empty
  // Shown to nobody although the tokenizer has bytes for them, as the markers around thinking.
  std::vector<int32_t> silent_ids;
};

// INVALID_ARGUMENT with field, value and limit; `tokenizer` is null if there is none, which only
// stop strings need.
absl::Status CheckStopRules(const StopRules& rules, int vocab_size, const Tokenizer* tokenizer);

enum class EndReason { kStop, kLength };

struct AnswerEnd {
  EndReason reason = EndReason::kLength;
  std::string stop_string;  // the one that matched, if one did
};

struct OutputToken {
  int choice = 0;
  int index = 0;  // in its answer
  IdAndLogprob token;
  std::vector<IdAndLogprob> top;
  std::optional<int> text_bytes;  // where a stop string or stop id cut it; else all
};

// Finds the first stop string in bytes that come one by one, each string by the algorithm of Knuth,
// Morris and Pratt ("Fast pattern matching in strings", 1977).
class StopStringMatcher {
 public:
  // `strings`, none empty, outlive it.
  explicit StopStringMatcher(absl::Span<const std::string> strings);

  // The longest string that ends with this byte; null if none does.
  const std::string* Append(char byte);
  // How many of the last bytes may be the beginning of a string. Always fewer than the longest has.
  int num_pending_bytes() const;
  // What comes next does not continue what was.
  void Reset();

 private:
  struct Pattern {
    const std::string* text = nullptr;
    // borders[n]: the longest proper prefix of the first n bytes that is also their suffix.
    std::vector<int> borders;
    int num_matched = 0;  // less than the size of the text
  };
  std::vector<Pattern> patterns_;
};

class AnswerStream {
 public:
  // `rules`, which passed CheckStopRules, and `tokenizer` (may be null) outlive it.
  AnswerStream(const StopRules* rules, const Tokenizer* tokenizer);

  // One more token of the answer. Appends to `released` what may leave. Nothing follows an end.
  std::optional<AnswerEnd> Append(OutputToken token, std::vector<OutputToken>& released);

  // Ids that must not be drawn now: the stop ids, before min_new_tokens.
  absl::Span<const int32_t> banned_ids() const;
  int num_tokens() const { return num_tokens_; }

 private:
  // A token that has not left; its bytes stand at [begin, end) of all bytes of the answer.
  struct HeldToken {
    OutputToken output;
    int64_t begin = 0;
    int64_t end = 0;
  };

  // Sees the bytes of the last held token. The stop string that became complete, already cut away.
  const std::string* MatchLast();
  // Releases the tokens in front of this byte.
  void Release(int64_t first_held_byte, std::vector<OutputToken>& released);

  const StopRules* rules_;
  const Tokenizer* tokenizer_;
  StopStringMatcher matcher_;
  int num_tokens_ = 0;
  int64_t num_bytes_ = 0;
  bool has_ended_ = false;
  std::deque<HeldToken> held_;
};

// Brings a fresh stream to where an earlier attempt had told these ids of choice `choice`. What it releases
// has been told; what it holds back will be released once more, since only then it is known where it was
// cut. The end, if the last id ended the answer; INVALID_ARGUMENT if one before it did.
absl::StatusOr<std::optional<AnswerEnd>> Replay(absl::Span<const int32_t> ids, int choice,
                                                AnswerStream& answer);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_ANSWER_STREAM_H_
