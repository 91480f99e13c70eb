// A large file, read and written at offsets.
//
//   ASSIGN_OR_RETURN(StoreFile file, StoreFile::Open(path, StoreFile::Mode::kDirect));
//   RETURN_IF_ERROR(file.ReadAt(record.offset, bytes));
//
// kDirect reads past the page cache where the file system can (else it is kBuffered): what is read is
// kept by the reader, and would be in memory twice. Offsets, sizes and memory must then lie on
// borders of 4096 bytes.
//
// Threads: safe for concurrent use. Errors: what the system says, with the path; DATA_LOSS for a read
// behind the end.
#ifndef ORRERY_CHECKPOINT_STORE_STORE_FILE_H_
#define ORRERY_CHECKPOINT_STORE_STORE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/types/span.h"
#include "base/status.h"

namespace orrery {

class StoreFile {
 public:
  enum class Mode { kBuffered, kDirect, kWrite };  // kWrite makes the file if there is none

  static absl::StatusOr<StoreFile> Open(const std::string& path, Mode mode);
  ~StoreFile();
  StoreFile(StoreFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  StoreFile& operator=(StoreFile&&) = delete;

  const std::string& path() const { return path_; }
  absl::StatusOr<int64_t> Size() const;
  absl::Status ReadAt(int64_t offset, absl::Span<std::byte> to) const;
  absl::Status WriteAt(int64_t offset, absl::Span<const std::byte> from);
  absl::Status Truncate(int64_t size);
  absl::Status Sync();
  // Until it is closed. FAILED_PRECONDITION if another process or object has it.
  absl::Status Lock();
  // Forgets what the page cache has of it.
  void DropCache() const;

 private:
  StoreFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_;
};

// Makes a rename inside of it last.
absl::Status SyncDirectory(const std::string& dir);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_STORE_STORE_FILE_H_
