#include "checkpoint/text/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "checkpoint/text/utf8.h"

namespace orrery {
namespace {

constexpr bool StandsForItself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

constexpr int kNumRenamed = 68;
constexpr char32_t kFirstRenamed = 0x100;
constexpr int kNumCodePoints = kFirstRenamed + kNumRenamed;

struct Alphabet {
  std::array<char32_t, 256> of_byte{};
  std::array<int16_t, kNumCodePoints> byte_of{};  // -1: not in the alphabet
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.byte_of) byte = -1;
  char32_t next = kFirstRenamed;
  for (int byte = 0; byte < 256; ++byte) {
    alphabet.of_byte[byte] = StandsForItself(byte) ? static_cast<char32_t>(byte) : next++;
    alphabet.byte_of[alphabet.of_byte[byte]] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();
static_assert(kAlphabet.of_byte[' '] == 0x120 && kAlphabet.of_byte['\n'] == 0x10a);
static_assert(kAlphabet.of_byte[0xad] == kFirstRenamed + kNumRenamed - 1);

}  // namespace

std::string BytesToAlphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) AppendUtf8(kAlphabet.of_byte[static_cast<uint8_t>(byte)], text);
  return text;
}

std::optional<std::string> AlphabetToBytes(std::string_view text) {
  std::string bytes;
  for (size_t offset = 0; offset < text.size();) {
    const std::string_view rest = text.substr(offset);
    const char32_t code_point = DecodeUtf8(rest);
    if (code_point >= kNumCodePoints || kAlphabet.byte_of[code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kAlphabet.byte_of[code_point]));
    offset += NextUtf8(rest).num_bytes;
  }
  return bytes;
}

}  // namespace orrery
