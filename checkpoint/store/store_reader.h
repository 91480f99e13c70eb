// Reads records of a store at the speed of the disk, ahead of whoever takes them.
//
//   StoreReader reader(&store, keys, &bytes_read);
//   for (const std::string& key : keys) {
//     ASSIGN_OR_RETURN(StoredRecord record, reader.Take(key));
//     ...
//   }
//
// Four threads read chunks of 4 MB in the order of the keys, past the page cache, into memory on
// large pages, and hash what they read. Records are meant to be kept: all that are asked for are
// read, however far the taker is behind. (Mapping the file instead is as fast to read, measured; but
// its pages are small, and products stream from them a quarter slower.)
//
// Threads: one taker. Errors: NOT_FOUND for a key that the store has not, DATA_LOSS for bytes that
// are not what was written, RESOURCE_EXHAUSTED without memory; always with the path and the key.
#ifndef ORRERY_CHECKPOINT_STORE_STORE_READER_H_
#define ORRERY_CHECKPOINT_STORE_STORE_READER_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "checkpoint/store/packed_store.h"
#include "checkpoint/store/record_hash.h"
#include "checkpoint/store/store_file.h"

namespace orrery {

// A record in memory.
struct StoredRecord {
  const StoreRecord* record = nullptr;  // of its store
  std::shared_ptr<const std::byte[]> memory;

  // An empty span if it has no such part.
  absl::Span<const std::byte> Part(std::string_view name) const;
};

class StoreReader {
 public:
  // The store must outlive it. Bytes read are added to *bytes_read, which other threads may read.
  StoreReader(const PackedStore* store, const std::vector<std::string>& keys,
              std::atomic<int64_t>* bytes_read);
  ~StoreReader();
  StoreReader(const StoreReader&) = delete;
  StoreReader& operator=(const StoreReader&) = delete;

  // Waits for one of the keys, and gives it away: each can be taken once.
  absl::StatusOr<StoredRecord> Take(const std::string& key);

 private:
  // A record that is being read.
  struct Pending;
  struct Chunk {
    Pending* pending = nullptr;
    int64_t index = 0;
  };

  void Run();
  absl::Status Read(const Chunk& chunk);
  // After its last chunk.
  void Finish(Pending& pending);

  const PackedStore* const store_;
  std::atomic<int64_t>* const bytes_read_;
  absl::StatusOr<StoreFile> file_;
  std::map<std::string, std::unique_ptr<Pending>> pending_;  // set up once
  std::vector<Chunk> chunks_;                                // in the order of reading; set up once
  std::atomic<size_t> next_chunk_ = 0;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::condition_variable finished_;
  std::vector<std::thread> threads_;
};

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_STORE_STORE_READER_H_
