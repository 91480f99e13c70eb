#include "checkpoint/store/store_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_memory.h"

namespace orrery {
namespace {

constexpr int kNumThreads = 4;

}  // namespace

struct StoreReader::Pending {
  explicit Pending(const StoreRecord* r)
      : record(r), hasher(r->num_bytes), chunks_left(hasher.num_chunks()) {}

  const StoreRecord* const record;
  RecordHasher hasher;
  std::once_flag allocate_once;
  std::shared_ptr<std::byte[]> memory;
  std::atomic<int64_t> chunks_left;
  absl::Status status;       // guarded by the reader's mutex: the first error
  bool is_finished = false;  // guarded by the reader's mutex
};

absl::Span<const std::byte> StoredRecord::Part(std::string_view name) const {
  for (const StorePart& part : record->parts) {
    if (part.name == name) {
      return {memory.get() + part.offset, static_cast<size_t>(part.num_bytes)};
    }
  }
  return {};
}

StoreReader::StoreReader(const PackedStore* store, const std::vector<std::string>& keys,
                         std::atomic<int64_t>* bytes_read)
    : store_(store),
      bytes_read_(bytes_read),
      file_(StoreFile::Open(store->records_path(), StoreFile::Mode::kDirect)) {
  for (const std::string& key : keys) {
    const StoreRecord* const record = store->Find(key);
    if (record == nullptr) continue;  // Take says so
    auto [at, is_new] = pending_.emplace(key, nullptr);
    if (!is_new) continue;
    at->second = std::make_unique<Pending>(record);
    for (int64_t i = 0; i < at->second->hasher.num_chunks(); ++i) {
      chunks_.push_back({at->second.get(), i});
    }
  }
  if (!file_.ok()) return;
  const size_t num_threads = std::min<size_t>(kNumThreads, chunks_.size());
  for (size_t i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Run(); });
}

StoreReader::~StoreReader() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
}

absl::StatusOr<StoredRecord> StoreReader::Take(const std::string& key) {
  RETURN_IF_ERROR(file_.status());
  const auto found = pending_.find(key);
  if (found == pending_.end()) {
    return absl::NotFoundError(
        absl::StrCat("the packed store ", store_->dir(), " has no record ", key));
  }
  Pending& pending = *found->second;
  std::unique_lock<std::mutex> lock(mutex_);
  // Threads end by themselves, and finish every chunk first.
  finished_.wait(lock, [&] { return pending.is_finished; });
  RETURN_IF_ERROR(pending.status);
  if (pending.memory == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("record ", key, " was taken before"));
  }
  return StoredRecord{.record = pending.record, .memory = std::move(pending.memory)};
}

void StoreReader::Run() {
  while (!stopping_) {
    const size_t next = next_chunk_.fetch_add(1);
    if (next >= chunks_.size()) return;
    Pending& pending = *chunks_[next].pending;
    const absl::Status status = Read(chunks_[next]);
    if (!status.ok()) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (pending.status.ok()) pending.status = status;
    }
    if (pending.chunks_left.fetch_sub(1) == 1) Finish(pending);
  }
}

absl::Status StoreReader::Read(const Chunk& chunk) {
  Pending& pending = *chunk.pending;
  std::call_once(pending.allocate_once, [&] {
    pending.memory = TryAllocateAligned<std::byte>(pending.record->num_bytes, kRecordAlignment);
  });
  if (pending.memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "no memory for the ", pending.record->num_bytes, " bytes of record ", pending.record->key));
  }
  const int64_t begin = chunk.index * kChunkBytes;
  const int64_t num_bytes = std::min(kChunkBytes, pending.record->num_bytes - begin);
  const absl::Span<std::byte> bytes(pending.memory.get() + begin, num_bytes);
  RETURN_IF_ERROR(file_->ReadAt(pending.record->offset + begin, bytes));
  pending.hasher.SetChunk(chunk.index, bytes);
  *bytes_read_ += num_bytes;
  return absl::OkStatus();
}

void StoreReader::Finish(Pending& pending) {
  const std::string hash = pending.hasher.Hash();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (pending.status.ok() && hash != pending.record->hash) {
    pending.status = absl::DataLossError(absl::StrCat(
        "record ", pending.record->key, " of ", store_->records_path(), " has checksum ", hash,
        ", its index says ", pending.record->hash, ": the store is damaged"));
  }
  pending.is_finished = true;
  finished_.notify_all();
}

}  // namespace orrery
