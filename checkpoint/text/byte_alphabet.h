// The alphabet in which byte-level BPE writes bytes as visible characters (openai/gpt-2,
// encoder.py).
//
//   bytes 33-126, 161-172, 174-255 -> the character of that number
//   the other 68, in order          -> U+0100, U+0101, ...          " " -> U+0120, "\n" -> U+010A
#ifndef ORRERY_CHECKPOINT_TEXT_BYTE_ALPHABET_H_
#define ORRERY_CHECKPOINT_TEXT_BYTE_ALPHABET_H_

#include <optional>
#include <string>
#include <string_view>

namespace orrery {

std::string BytesToAlphabet(std::string_view bytes);

// nullopt if some character is not of the alphabet. `text` must be valid UTF-8.
std::optional<std::string> AlphabetToBytes(std::string_view text);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_TEXT_BYTE_ALPHABET_H_
