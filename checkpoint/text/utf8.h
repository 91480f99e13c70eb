// UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF.
#ifndef ORRERY_CHECKPOINT_TEXT_UTF8_H_
#define ORRERY_CHECKPOINT_TEXT_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace orrery {

// What stands at the beginning of some bytes.
struct Utf8Step {
  enum class Kind {
    kCharacter,  // one character of num_bytes bytes
    kInvalid,    // num_bytes bytes that begin no character: one replacement
    kCut,        // the text ends inside a character
  };
  Kind kind;
  size_t num_bytes;  // at least 1
};
// An invalid sequence is a "maximal subpart" (Unicode 15, section 3.9), as decoders agree to count.
// `bytes` must not be empty.
Utf8Step NextUtf8(std::string_view bytes);

// Offset of the first byte that is not part of a character, or npos.
size_t FindInvalidUtf8(std::string_view text);

// Appends `bytes` to `text` with U+FFFD for each invalid sequence, up to a character that is cut at
// the end: its bytes (at most 3) are left, and how many bytes were consumed is returned. is_end:
// nothing will follow, so the cut character becomes U+FFFD too.
size_t AppendReplacingInvalid(std::string_view bytes, bool is_end, std::string& text);

// The code point of the character at the beginning of valid text.
char32_t DecodeUtf8(std::string_view character);
void AppendUtf8(char32_t code_point, std::string& text);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_TEXT_UTF8_H_
