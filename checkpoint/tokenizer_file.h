// tokenizer.json, read and validated: what the Tokenizer is built from. Format:
// huggingface/tokenizers, whose parts outside byte-level BPE are refused by name. Internal to
// tokenizer.cc.
#ifndef ORRERY_CHECKPOINT_TOKENIZER_FILE_H_
#define ORRERY_CHECKPOINT_TOKENIZER_FILE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/status.h"

namespace orrery {

// Ids beyond this are mistakes (DeepSeek-V3: 128814, Qwen2: 151664).
inline constexpr int32_t kMaxTokenId = (1 << 21) - 1;

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;  // looked for in the normalised text, not in the raw one
};

struct MergeRule {
  int32_t left = 0;
  int32_t right = 0;
  int32_t merged = 0;
};

struct TokenizerFile {
  bool nfc = false;
  std::vector<std::string> split_patterns;  // in order, each "Isolated"
  std::vector<AddedToken> added_tokens;
  absl::flat_hash_map<std::string, int32_t> vocab;  // in the byte alphabet; unique ids
  std::array<int32_t, 256> byte_ids{};
  std::vector<MergeRule> merges;  // by rank
  bool ignore_merges = false;     // a piece that is a token as it stands is not split
};

// INVALID_ARGUMENT that names `origin`, the field and its value.
absl::StatusOr<TokenizerFile> ParseTokenizerFile(const std::string& json,
                                                 const std::string& origin);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_TOKENIZER_FILE_H_
