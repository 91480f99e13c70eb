#include "checkpoint/store/store_writer.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_memory.h"
#include "base/check.h"
#include "checkpoint/file.h"
#include "checkpoint/store/packed_store.h"
#include "checkpoint/store/record_hash.h"

namespace orrery {
namespace {

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

absl::Span<const std::byte> BytesOf(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

// Whether the file holds the record, undamaged.
bool IsWritten(const StoreFile& file, const StoreRecord& record) {
  RecordHasher hasher(record.num_bytes);
  std::vector<std::byte> chunk(kChunkBytes);
  for (int64_t i = 0; i < hasher.num_chunks(); ++i) {
    const int64_t begin = i * kChunkBytes;
    const absl::Span<std::byte> bytes(chunk.data(),
                                      std::min(kChunkBytes, record.num_bytes - begin));
    if (!file.ReadAt(record.offset + begin, bytes).ok()) return false;
    hasher.SetChunk(i, bytes);
  }
  return hasher.Hash() == record.hash;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoreWriter>> StoreWriter::Open(
    const std::string& dir, const StoreIdentity& identity,
    const std::function<void(const StoreRecord&)>& on_kept) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat("cannot make ", dir, ": ", error.message()));
  }
  ASSIGN_OR_RETURN(StoreFile records,
                   StoreFile::Open(JoinPath(dir, kRecordsFile), StoreFile::Mode::kWrite));
  RETURN_IF_ERROR(records.Lock());
  ASSIGN_OR_RETURN(StoreFile journal,
                   StoreFile::Open(JoinPath(dir, kJournalFile), StoreFile::Mode::kWrite));
  // What is there is not the store any more that its index describes.
  std::filesystem::remove(JoinPath(dir, kIndexFile), error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("cannot remove ", JoinPath(dir, kIndexFile), ": ", error.message()));
  }
  std::unique_ptr<StoreWriter> writer(new StoreWriter(dir, std::move(records), std::move(journal)));
  RETURN_IF_ERROR(writer->Resume(identity, on_kept));
  return writer;
}

StoreWriter::~StoreWriter() = default;

absl::Status StoreWriter::Resume(const StoreIdentity& identity,
                                 const std::function<void(const StoreRecord&)>& on_kept) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(journal_.path(), kMaxStoreIndexBytes));
  RETURN_IF_ERROR(journal_.Truncate(0));
  RETURN_IF_ERROR(AddLine(IdentityLine(identity)));
  const absl::StatusOr<StoreIndex> before = ParseStoreJournal(text, journal_.path());
  if (before.ok() && before->identity == identity) {
    for (const StoreRecord& record : before->records) {
      if (!IsWritten(records_, record)) break;
      RETURN_IF_ERROR(AddLine(RecordLine(record)));
      keys_.insert(record.key);
      num_bytes_ = record.offset + record.num_bytes;
      if (on_kept) on_kept(record);
    }
  }
  return records_.Truncate(num_bytes_);
}

absl::Status StoreWriter::Add(const std::string& key, absl::Span<const Part> parts) {
  ORRERY_CHECK(!Has(key) && !parts.empty()) << key << ", " << parts.size() << " parts";
  StoreRecord record = {.key = key, .offset = num_bytes_, .num_bytes = 0, .hash = "", .parts = {}};
  for (const Part& part : parts) {
    const auto num_bytes = static_cast<int64_t>(part.bytes.size());
    record.num_bytes = RoundUp(record.num_bytes, kPartAlignment);
    record.parts.push_back({part.name, record.num_bytes, num_bytes});
    record.num_bytes += num_bytes;
  }
  record.num_bytes = std::max(RoundUp(record.num_bytes, kRecordAlignment), kRecordAlignment);
  const AlignedArray<std::byte> memory = TryAllocateAligned<std::byte>(record.num_bytes);
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for the ", record.num_bytes, " bytes of record ", key));
  }
  int64_t end = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    std::memset(memory.get() + end, 0, record.parts[i].offset - end);
    end = record.parts[i].offset + record.parts[i].num_bytes;
    if (!parts[i].bytes.empty()) {
      std::memcpy(memory.get() + record.parts[i].offset, parts[i].bytes.data(),
                  parts[i].bytes.size());
    }
  }
  std::memset(memory.get() + end, 0, record.num_bytes - end);
  const absl::Span<const std::byte> bytes(memory.get(), record.num_bytes);
  record.hash = RecordHash(bytes);
  RETURN_IF_ERROR(records_.WriteAt(record.offset, bytes));
  RETURN_IF_ERROR(AddLine(RecordLine(record)));
  num_bytes_ += record.num_bytes;
  keys_.insert(key);
  return absl::OkStatus();
}

absl::Status StoreWriter::AddLine(const std::string& line) {
  RETURN_IF_ERROR(journal_.WriteAt(static_cast<int64_t>(lines_.size()), BytesOf(line)));
  lines_ += line;
  return absl::OkStatus();
}

absl::Status StoreWriter::Finish(const std::map<std::string, std::string>& file_hashes) {
  RETURN_IF_ERROR(AddLine(EndLine(lines_, static_cast<int64_t>(keys_.size()), file_hashes)));
  RETURN_IF_ERROR(records_.Sync());
  RETURN_IF_ERROR(journal_.Sync());
  const std::string index = JoinPath(dir_, kIndexFile);
  std::error_code error;
  std::filesystem::rename(journal_.path(), index, error);
  if (error)
    return absl::UnavailableError(absl::StrCat("cannot make ", index, ": ", error.message()));
  return SyncDirectory(dir_);
}

}  // namespace orrery
