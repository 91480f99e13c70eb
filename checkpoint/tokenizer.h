// Text to token ids and back: byte-level BPE from tokenizer.json.
//
//   ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Open(dir));
//   ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer.Encode(text, SpecialText::kRecognize));
//   std::string text = tokenizer.Decode(ids, SpecialTokens::kSkip);
//
// Follows the file: normalizer (none or NFC), a sequence of Split regexes (Unicode, run by PCRE2),
// byte alphabet, merges by rank, ignore_merges, added tokens cut out first (those with
// "normalized": true after the normalizer, as in huggingface/tokenizers). Anything else in the file
// is an INVALID_ARGUMENT that names it. No BOS is added: chat templates write it.
//
// Text of users must be encoded with SpecialText::kPlain, else it can forge roles.
// Threads: a Tokenizer is immutable and safe for concurrent use; a DetokenizerStream belongs to one
// stream.
#ifndef ORRERY_CHECKPOINT_TOKENIZER_H_
#define ORRERY_CHECKPOINT_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"

namespace orrery {

// Longest text that one call encodes. Prompts are limited by tokens far below this.
inline constexpr size_t kMaxTextBytes = 64 << 20;

// Added tokens inside the text: plain characters, or tokens.
enum class SpecialText { kPlain, kRecognize };
// Tokens flagged special, when decoding.
enum class SpecialTokens { kSkip, kKeep };

class Tokenizer {
 public:
  // Reads DIR/tokenizer.json.
  static absl::StatusOr<Tokenizer> Open(const std::string& model_dir);
  static absl::StatusOr<Tokenizer> Parse(const std::string& tokenizer_json,
                                         const std::string& origin);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // INVALID_ARGUMENT with the byte offset for text that is not UTF-8, and for text above
  // kMaxTextBytes.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, SpecialText special) const;
  // Invalid UTF-8 comes out as U+FFFD, ids without a token as nothing.
  std::string Decode(absl::Span<const int32_t> ids, SpecialTokens special) const;

  // One more than the largest id.
  int num_ids() const;
  // By its string in the file: an added token's content, or an ordinary token in the byte alphabet
  // ("Ġthe").
  std::optional<int32_t> TokenId(std::string_view token) const;
  // Bytes that an id stands for, not necessarily whole characters; empty for an unknown id.
  std::string_view TokenBytes(int32_t id) const;
  bool IsSpecial(int32_t id) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Incremental decoding of one answer: bytes of an unfinished UTF-8 character are held back.
class DetokenizerStream {
 public:
  DetokenizerStream(const Tokenizer* tokenizer, SpecialTokens special)
      : tokenizer_(tokenizer), special_(special) {}
  // Text that became complete with this token; the concatenation over all tokens plus Finish()
  // equals Decode().
  std::string Append(int32_t id);
  // The same for bytes that are no whole token: where a stop string cut one.
  std::string AppendBytes(std::string_view bytes);
  // What was held back, with U+FFFD for the unfinished character.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  SpecialTokens special_;
  std::string pending_;  // bytes of an unfinished character, at most 3
};

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_TOKENIZER_H_
