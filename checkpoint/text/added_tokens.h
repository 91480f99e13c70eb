// Finds added tokens in text: leftmost first, the longest of those that begin there.
//
//   AddedTokenMatcher matcher;
//   matcher.Add("<think>", 766);
//   matcher.Split("<think>\n1+1", [](std::string_view text, std::optional<int32_t> id) { ... });
#ifndef ORRERY_CHECKPOINT_TEXT_ADDED_TOKENS_H_
#define ORRERY_CHECKPOINT_TEXT_ADDED_TOKENS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace orrery {

class AddedTokenMatcher {
 public:
  // `content` must not be empty.
  void Add(std::string_view content, int32_t id);

  // Calls `part` for each token and each (non-empty) run of text between, in order; ends at the
  // first error.
  absl::Status Split(
      std::string_view text,
      const std::function<absl::Status(std::string_view, std::optional<int32_t>)>& part) const;

 private:
  struct Node {
    std::map<char, int> children;  // byte -> index of a node
    int32_t id = -1;               // the token that ends here, or -1
  };
  // Length of the longest token that `text` begins with, or 0.
  size_t LongestAt(std::string_view text, int32_t& id) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);  // A trie; node 0 is the root.
};

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_TEXT_ADDED_TOKENS_H_
