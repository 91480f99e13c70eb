#include "checkpoint/text/utf8.h"

#include <cstdint>

namespace orrery {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// Unicode 15, table 3-7: how many bytes a first byte announces, and the range of the second. The
// others are 80..bf.
struct Lead {
  size_t num_bytes;  // 0: begins nothing
  uint8_t second_min;
  uint8_t second_max;
};
constexpr Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xc2) return {0, 0, 0};
  if (byte < 0xe0) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte < 0xf0) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte < 0xf4) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

}  // namespace

Utf8Step NextUtf8(std::string_view bytes) {
  const Lead lead = LeadOf(static_cast<uint8_t>(bytes[0]));
  if (lead.num_bytes == 0) return {Utf8Step::Kind::kInvalid, 1};
  for (size_t i = 1; i < lead.num_bytes; ++i) {
    if (i == bytes.size()) return {Utf8Step::Kind::kCut, i};
    const uint8_t byte = static_cast<uint8_t>(bytes[i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xbf;
    if (byte < min || byte > max) return {Utf8Step::Kind::kInvalid, i};
  }
  return {Utf8Step::Kind::kCharacter, lead.num_bytes};
}

size_t FindInvalidUtf8(std::string_view text) {
  size_t offset = 0;
  while (offset < text.size()) {
    const Utf8Step step = NextUtf8(text.substr(offset));
    if (step.kind != Utf8Step::Kind::kCharacter) return offset;
    offset += step.num_bytes;
  }
  return std::string_view::npos;
}

size_t AppendReplacingInvalid(std::string_view bytes, bool is_end, std::string& text) {
  size_t offset = 0;
  while (offset < bytes.size()) {
    const Utf8Step step = NextUtf8(bytes.substr(offset));
    if (step.kind == Utf8Step::Kind::kCharacter) {
      text.append(bytes.substr(offset, step.num_bytes));
    } else if (step.kind == Utf8Step::Kind::kInvalid || is_end) {
      text.append(kReplacement);
    } else {
      break;
    }
    offset += step.num_bytes;
  }
  return offset;
}

char32_t DecodeUtf8(std::string_view character) {
  const auto bits = [character](size_t i) {
    return static_cast<char32_t>(static_cast<uint8_t>(character[i]) & 0x3fu);
  };
  const uint8_t first = static_cast<uint8_t>(character[0]);
  if (first < 0x80) return first;
  if (first < 0xe0) return (static_cast<char32_t>(first & 0x1fu) << 6) | bits(1);
  if (first < 0xf0) return (static_cast<char32_t>(first & 0x0fu) << 12) | (bits(1) << 6) | bits(2);
  return (static_cast<char32_t>(first & 0x07u) << 18) | (bits(1) << 12) | (bits(2) << 6) | bits(3);
}

void AppendUtf8(char32_t code_point, std::string& text) {
  const auto put = [&text](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3f));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

}  // namespace orrery
