#include "checkpoint/store/record_hash.h"

#include <algorithm>

#include "checkpoint/fingerprint.h"
#include "checkpoint/store/store_file.h"
#include "xxhash.h"

namespace orrery {

void RecordHasher::SetChunk(int64_t chunk, absl::Span<const std::byte> bytes) {
  chunk_hashes_[chunk] = XXH3_64bits(bytes.data(), bytes.size());
}

std::string RecordHasher::Hash() const {
  return ContentHash(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(chunk_hashes_.data()),
                                         chunk_hashes_.size() * sizeof(uint64_t)));
}

std::string RecordHash(absl::Span<const std::byte> record) {
  RecordHasher hasher(static_cast<int64_t>(record.size()));
  for (int64_t i = 0; i < hasher.num_chunks(); ++i) {
    hasher.SetChunk(i, record.subspan(i * kChunkBytes, kChunkBytes));
  }
  return hasher.Hash();
}

absl::StatusOr<std::string> SampleHash(const std::string& path) {
  constexpr int64_t kSamples = 64, kSampleBytes = 4096;
  ASSIGN_OR_RETURN(const StoreFile file, StoreFile::Open(path, StoreFile::Mode::kBuffered));
  ASSIGN_OR_RETURN(const int64_t size, file.Size());
  std::vector<std::byte> samples(sizeof(size) + kSamples * kSampleBytes);
  std::copy_n(reinterpret_cast<const std::byte*>(&size), sizeof(size), samples.begin());
  std::byte* to = samples.data() + sizeof(size);
  for (int64_t i = 0; i < kSamples; ++i, to += kSampleBytes) {
    // The first holds the header, the last the end.
    const int64_t last = std::max<int64_t>(size - kSampleBytes, 0);
    const int64_t offset = last / (kSamples - 1) * i;
    const int64_t num = std::min(kSampleBytes, size);
    RETURN_IF_ERROR(file.ReadAt(i == kSamples - 1 ? last : offset, {to, static_cast<size_t>(num)}));
  }
  return ContentHash(samples);
}

}  // namespace orrery
