#include "checkpoint/text/added_tokens.h"

#include "base/check.h"

namespace orrery {

void AddedTokenMatcher::Add(std::string_view content, int32_t id) {
  ORRERY_CHECK(!content.empty()) << "added token " << id;
  int node = 0;
  for (const char byte : content) {
    const auto [child, is_new] =
        nodes_[node].children.try_emplace(byte, static_cast<int>(nodes_.size()));
    node = child->second;
    if (is_new) nodes_.emplace_back();
  }
  nodes_[node].id = id;
}

size_t AddedTokenMatcher::LongestAt(std::string_view text, int32_t& id) const {
  size_t longest = 0;
  int node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto child = nodes_[node].children.find(text[i]);
    if (child == nodes_[node].children.end()) break;
    node = child->second;
    if (nodes_[node].id >= 0) {
      longest = i + 1;
      id = nodes_[node].id;
    }
  }
  return longest;
}

absl::Status AddedTokenMatcher::Split(
    std::string_view text,
    const std::function<absl::Status(std::string_view, std::optional<int32_t>)>& part) const {
  size_t text_begin = 0;
  for (size_t offset = 0; offset < text.size();) {
    int32_t id = -1;
    const size_t length = LongestAt(text.substr(offset), id);
    if (length == 0) {
      ++offset;
      continue;
    }
    if (offset > text_begin) {
      RETURN_IF_ERROR(part(text.substr(text_begin, offset - text_begin), std::nullopt));
    }
    RETURN_IF_ERROR(part(text.substr(offset, length), id));
    offset += length;
    text_begin = offset;
  }
  if (text_begin < text.size()) return part(text.substr(text_begin), std::nullopt);
  return absl::OkStatus();
}

}  // namespace orrery
