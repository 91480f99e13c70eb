// A packed store: records of bytes under keys, on disk as their user wants them in memory.
//
//   ASSIGN_OR_RETURN(PackedStore store, PackedStore::Open(dir));
//   StoreReader reader(&store, {"model.layers.3.mlp.experts.7", ...}, &bytes_read);
//   ASSIGN_OR_RETURN(StoredRecord record, reader.Take("model.layers.3.mlp.experts.7"));
//   record.Part("model.layers.3.mlp.experts.7.gate_proj.weight")          // 64-byte aligned
//
// A directory of two files: `index` (store_index.h) and `records`, one behind the other. What the
// bytes mean is the user's business; the store knows what they were made from, and that they are
// undamaged. store_writer.h makes one.
//
// Errors: NOT_FOUND without one, DATA_LOSS for one that is damaged or cut off, INVALID_ARGUMENT for
// one of another version.
#ifndef ORRERY_CHECKPOINT_STORE_PACKED_STORE_H_
#define ORRERY_CHECKPOINT_STORE_PACKED_STORE_H_

#include <cstdint>
#include <map>
#include <string>

#include "base/status.h"
#include "checkpoint/store/store_index.h"

namespace orrery {

inline constexpr char kIndexFile[] = "index";
inline constexpr char kJournalFile[] = "index.partial";
inline constexpr char kRecordsFile[] = "records";
// 600 GB of experts make 15,000 records, some 6 MB of index.
inline constexpr int64_t kMaxStoreIndexBytes = int64_t{1} << 30;

class PackedStore {
 public:
  static absl::StatusOr<PackedStore> Open(const std::string& dir);
  PackedStore(PackedStore&&) = default;
  PackedStore& operator=(PackedStore&&) = default;

  const std::string& dir() const { return dir_; }
  std::string records_path() const;
  const StoreIndex& index() const { return index_; }
  const StoreIdentity& identity() const { return index_.identity; }
  // Null if there is none.
  const StoreRecord* Find(const std::string& key) const;
  int64_t num_bytes() const;

 private:
  PackedStore(std::string dir, StoreIndex index);

  std::string dir_;
  StoreIndex index_;
  std::map<std::string, size_t> record_of_key_;
};

// Whether there is one, damaged or not.
bool HasPackedStore(const std::string& dir);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_STORE_PACKED_STORE_H_
