#include "checkpoint/store/packed_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "checkpoint/file.h"
#include "checkpoint/store/store_file.h"

namespace orrery {

absl::StatusOr<PackedStore> PackedStore::Open(const std::string& dir) {
  const std::string path = JoinPath(dir, kIndexFile);
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxStoreIndexBytes));
  ASSIGN_OR_RETURN(StoreIndex index, ParseStoreIndex(text, path));
  PackedStore store(dir, std::move(index));
  ASSIGN_OR_RETURN(const StoreFile records,
                   StoreFile::Open(store.records_path(), StoreFile::Mode::kBuffered));
  ASSIGN_OR_RETURN(const int64_t size, records.Size());
  if (size != store.num_bytes()) {
    return absl::DataLossError(absl::StrCat(store.records_path(), " has ", size,
                                            " bytes; its index asks for ", store.num_bytes()));
  }
  return store;
}

PackedStore::PackedStore(std::string dir, StoreIndex index)
    : dir_(std::move(dir)), index_(std::move(index)) {
  for (size_t i = 0; i < index_.records.size(); ++i) record_of_key_[index_.records[i].key] = i;
}

std::string PackedStore::records_path() const { return JoinPath(dir_, kRecordsFile); }

const StoreRecord* PackedStore::Find(const std::string& key) const {
  const auto found = record_of_key_.find(key);
  return found == record_of_key_.end() ? nullptr : &index_.records[found->second];
}

int64_t PackedStore::num_bytes() const {
  return index_.records.empty() ? 0
                                : index_.records.back().offset + index_.records.back().num_bytes;
}

bool HasPackedStore(const std::string& dir) { return FileExists(JoinPath(dir, kIndexFile)); }

}  // namespace orrery
