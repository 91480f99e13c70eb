#include "checkpoint/text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "checkpoint/text/utf8.h"

namespace orrery {
namespace {

// Backtracking steps within one match. The patterns of the published tokenizers need about one per
// character of the piece (a run of blanks is tried whole, then shortened), so this is a text of 10
// MB in one piece.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kDepthLimit = 10'000;  // of nested backtracking points
constexpr uint32_t kHeapLimitKib = 65'536;

// Unicode White_Space (PropList.txt, Unicode 15).
constexpr std::string_view kWhiteSpace =
    R"(\x{09}-\x{0d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

std::string Pcre2Message(int code) {
  PCRE2_UCHAR buffer[256];
  const int length = pcre2_get_error_message(code, buffer, sizeof buffer);
  return length < 0 ? absl::StrCat("error ", code)
                    : std::string(reinterpret_cast<const char*>(buffer), length);
}

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct CompileContextDeleter {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

absl::StatusOr<std::unique_ptr<pcre2_code, CodeDeleter>> Compile(const std::string& pattern) {
  ASSIGN_OR_RETURN(const std::string translated, TranslatePattern(pattern));
  const std::unique_ptr<pcre2_compile_context, CompileContextDeleter> context(
      pcre2_compile_context_create(nullptr));
  if (context == nullptr) return absl::ResourceExhaustedError("no memory for PCRE2");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  // MULTILINE: in Ruby ^ and $ always mean lines.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  std::unique_ptr<pcre2_code, CodeDeleter> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), kOptions,
                    &error, &error_offset, context.get()));
  if (code == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("the pattern ", pattern, " (as ", translated,
                                                   ") is wrong at byte ", error_offset, ": ",
                                                   Pcre2Message(error)));
  }
  return code;
}

}  // namespace

absl::StatusOr<std::string> TranslatePattern(std::string_view pattern) {
  const auto refuse = [pattern](std::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("the pattern ", std::string(pattern),
                     " uses what we do not implement: ", std::string(what)));
  };
  if (pattern.substr(0, 2) == "(*") return refuse("a verb of PCRE2");
  std::string translated;
  bool in_class = false;
  size_t class_begin = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's') {
        absl::StrAppend(&translated, in_class ? "" : "[", std::string(kWhiteSpace),
                        in_class ? "" : "]");
      } else if (escaped == 'S' && in_class) {
        return refuse("\\S inside [...]");
      } else if (escaped == 'S') {
        absl::StrAppend(&translated, "[^", std::string(kWhiteSpace), "]");
      } else if (std::string_view("hHwWbB").find(escaped) != std::string_view::npos) {
        return refuse(std::string{c, escaped});
      } else {
        translated.append({c, escaped});
      }
      continue;
    }
    if (in_class && c == '[') return refuse("[ inside [...]");
    if (in_class && c == '&' && pattern.substr(i, 2) == "&&") return refuse("&& inside [...]");
    if (c == '[') {
      in_class = true;
      class_begin = i + (pattern.substr(i + 1, 1) == "^" ? 2 : 1);
    } else if (c == ']' && in_class && i != class_begin) {
      in_class = false;
    }
    translated.push_back(c);
  }
  return translated;
}

struct PreTokenizer::Pattern {
  std::string source;
  std::unique_ptr<pcre2_code, CodeDeleter> code;

  // Appends the pieces that this pattern makes of one.
  absl::Status Split(std::string_view text, std::vector<std::string_view>& pieces) const;
};

absl::Status PreTokenizer::Pattern::Split(std::string_view text,
                                          std::vector<std::string_view>& pieces) const {
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> match(
      pcre2_match_data_create_from_pattern(code.get(), nullptr));
  const std::unique_ptr<pcre2_match_context, MatchContextDeleter> context(
      pcre2_match_context_create(nullptr));
  if (match == nullptr || context == nullptr) {
    return absl::ResourceExhaustedError("no memory for PCRE2");
  }
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_depth_limit(context.get(), kDepthLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);

  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t piece_begin = 0;
  size_t offset = 0;
  while (offset < text.size()) {
    // The whole text was validated once; PCRE2 would do it again for every match.
    const int found = pcre2_match(code.get(), subject, text.size(), offset, PCRE2_NO_UTF_CHECK,
                                  match.get(), context.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return absl::ResourceExhaustedError(absl::StrCat("the pattern ", source,
                                                       " gives up on a piece of ", text.size(),
                                                       " bytes: ", Pcre2Message(found)));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match.get());
    if (ends[0] < offset || ends[1] < ends[0]) {  // Only \K in a lookaround can do that.
      return absl::InvalidArgumentError(absl::StrCat("the pattern ", source, " matches backwards"));
    }
    if (ends[0] == text.size()) break;
    if (ends[0] > piece_begin) pieces.push_back(text.substr(piece_begin, ends[0] - piece_begin));
    if (ends[1] > ends[0]) pieces.push_back(text.substr(ends[0], ends[1] - ends[0]));
    piece_begin = offset = ends[1];
    // An empty match cuts without taking anything; the search goes on one character later.
    if (ends[1] == ends[0]) offset += NextUtf8(text.substr(offset)).num_bytes;
  }
  if (piece_begin < text.size()) pieces.push_back(text.substr(piece_begin));
  return absl::OkStatus();
}

PreTokenizer::PreTokenizer(std::vector<std::unique_ptr<Pattern>> patterns)
    : patterns_(std::move(patterns)) {}
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const std::vector<std::string>& patterns) {
  std::vector<std::unique_ptr<Pattern>> compiled;
  for (const std::string& source : patterns) {
    auto pattern = std::make_unique<Pattern>();
    pattern->source = source;
    ASSIGN_OR_RETURN(pattern->code, Compile(source));
    compiled.push_back(std::move(pattern));
  }
  return PreTokenizer(std::move(compiled));
}

absl::Status PreTokenizer::Split(std::string_view text,
                                 std::vector<std::string_view>& pieces) const {
  if (text.empty()) return absl::OkStatus();
  std::vector<std::string_view> current = {text};
  std::vector<std::string_view> next;
  for (const std::unique_ptr<Pattern>& pattern : patterns_) {
    next.clear();
    for (const std::string_view piece : current) RETURN_IF_ERROR(pattern->Split(piece, next));
    current.swap(next);
  }
  pieces.insert(pieces.end(), current.begin(), current.end());
  return absl::OkStatus();
}

}  // namespace orrery
