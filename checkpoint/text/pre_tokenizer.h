// Cuts text into the pieces that BPE works on: the Split steps of tokenizer.json.
//
//   ASSIGN_OR_RETURN(PreTokenizer splitter, PreTokenizer::Create({"\\p{N}{1,3}", "\\s+|\\S+"}));
//   RETURN_IF_ERROR(splitter.Split("abc 1234", pieces));    // views into the text
//
// Every pattern is applied to every piece that the one before left; matches and the text between
// them both stay (behaviour "Isolated"). Pieces see nothing of their neighbours, lookahead
// included.
//
// The patterns are written for Oniguruma (Ruby syntax, Unicode) and run by PCRE2. Where the two
// would disagree the pattern is rewritten or refused: see TranslatePattern.
#ifndef ORRERY_CHECKPOINT_TEXT_PRE_TOKENIZER_H_
#define ORRERY_CHECKPOINT_TEXT_PRE_TOKENIZER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace orrery {

class PreTokenizer {
 public:
  // INVALID_ARGUMENT with pattern and place.
  static absl::StatusOr<PreTokenizer> Create(const std::vector<std::string>& patterns);
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // Appends the pieces of `text`, which must be valid UTF-8. RESOURCE_EXHAUSTED if a pattern needs
  // more steps than kMatchLimit on it. Safe for concurrent use.
  absl::Status Split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  struct Pattern;
  explicit PreTokenizer(std::vector<std::unique_ptr<Pattern>> patterns);
  std::vector<std::unique_ptr<Pattern>> patterns_;
};

// An Oniguruma pattern in the words of PCRE2: \s and \S become Unicode White_Space (PCRE2's own \s
// has U+180E too). Refuses what cannot be said or means something else there: \S inside a class,
// nested classes and intersections of classes, \h (a hex digit in Ruby), \w and \b (other Unicode
// categories).
absl::StatusOr<std::string> TranslatePattern(std::string_view pattern);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_TEXT_PRE_TOKENIZER_H_
