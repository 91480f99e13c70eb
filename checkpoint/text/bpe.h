// Byte pair encoding of one piece: start from bytes, and merge the adjacent pair of the lowest rank
// (the leftmost, if several have it) until no pair has one.
//
// O(n log n) in the length of the piece: a piece may be as long as the text.
#ifndef ORRERY_CHECKPOINT_TEXT_BPE_H_
#define ORRERY_CHECKPOINT_TEXT_BPE_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace orrery {

class BytePairEncoder {
 public:
  // byte_ids: the token of each single byte.
  explicit BytePairEncoder(const std::array<int32_t, 256>& byte_ids) : byte_ids_(byte_ids) {}

  // left and right next to each other become `merged`; the rank is the number of merges added
  // before. False, and nothing added, if the pair has a merge already.
  bool AddMerge(int32_t left, int32_t right, int32_t merged);

  // Appends the tokens of `bytes`.
  void Encode(std::string_view bytes, std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t merged;
  };
  const Merge* Find(int32_t left, int32_t right) const;

  std::array<int32_t, 256> byte_ids_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by left << 32 | right
};

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_TEXT_BPE_H_
