// Checksums of a store: of records, by chunks that threads hash as they read them, and of the files
// that a store was made from, by samples.
//
//   RecordHasher hasher(record.num_bytes);
//   hasher.SetChunk(i, bytes);                 // in any order, from any thread, each once
//   if (hasher.Hash() != record.hash) ...
//
// XXH3: against damage and mix-ups, not adversaries.
#ifndef ORRERY_CHECKPOINT_STORE_RECORD_HASH_H_
#define ORRERY_CHECKPOINT_STORE_RECORD_HASH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"

namespace orrery {

// What is read and hashed at a time: enough to keep a disk busy, and four of them share 16 MB.
inline constexpr int64_t kChunkBytes = 4 << 20;

// XXH3-128 of the XXH3-64s of the chunks.
class RecordHasher {
 public:
  explicit RecordHasher(int64_t num_bytes)
      : chunk_hashes_((num_bytes + kChunkBytes - 1) / kChunkBytes) {}
  int64_t num_chunks() const { return static_cast<int64_t>(chunk_hashes_.size()); }
  void SetChunk(int64_t chunk, absl::Span<const std::byte> bytes);
  // When all chunks are set.
  std::string Hash() const;

 private:
  std::vector<uint64_t> chunk_hashes_;
};

std::string RecordHash(absl::Span<const std::byte> record);

// Of a file's size and 64 pieces of 4 KiB, spread evenly: tells models apart without reading them. A
// store is proof of its own content; this tells whether it is still that of the files beside it.
absl::StatusOr<std::string> SampleHash(const std::string& path);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_STORE_RECORD_HASH_H_
