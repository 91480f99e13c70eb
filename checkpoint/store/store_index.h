// The table of contents of a packed store, as text: one JSON object a line.
//
//   {"orrery_store":1,"numerics_id":"x86-1 ...","config_hash":"...","sources":{"model.safetensors":"..."}}
//   {"key":"model.layers.3.mlp.experts.7","offset":4096,"bytes":8651008,"hash":"...",
//    "parts":[["model.layers.3.mlp.experts.7.gate_proj.weight",0,2884736], ...]}
//   ...
//   {"end":448,"files":{"model.safetensors":"..."},"hash":"..."}
//
// A record is what is read at a time: an expert, say, with its three matrices as parts. Lines are
// added one by one while a store is made, so that its beginning is the journal that making it resumes
// from; the last line makes it whole. Its hash covers all lines before.
//
// Errors: DATA_LOSS for a text that is no whole index, INVALID_ARGUMENT for the index of another
// version; always with the path, and with the line.
#ifndef ORRERY_CHECKPOINT_STORE_STORE_INDEX_H_
#define ORRERY_CHECKPOINT_STORE_STORE_INDEX_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace orrery {

inline constexpr int kStoreVersion = 1;
// Records start on such a border, which direct I/O and pages ask for.
inline constexpr int64_t kRecordAlignment = 4096;
// Parts start on such a border, counted from their record.
inline constexpr int64_t kPartAlignment = 64;

// What a store was made from, and for.
struct StoreIdentity {
  std::string numerics_id;
  std::string config_hash;
  std::map<std::string, std::string> sources;  // weights file -> SampleHash

  bool operator==(const StoreIdentity&) const = default;
};

struct StorePart {
  std::string name;
  int64_t offset = 0;  // in its record
  int64_t num_bytes = 0;
};

struct StoreRecord {
  std::string key;
  int64_t offset = 0;     // in the file of records
  int64_t num_bytes = 0;  // a multiple of kRecordAlignment
  std::string hash;       // RecordHash
  std::vector<StorePart> parts;
};

struct StoreIndex {
  StoreIdentity identity;
  std::vector<StoreRecord> records;
  bool is_whole = false;
  std::map<std::string, std::string> file_hashes;  // weights file -> content hash; if it is whole
};

std::string IdentityLine(const StoreIdentity& identity);
std::string RecordLine(const StoreRecord& record);
// `lines`: all before it.
std::string EndLine(std::string_view lines, int64_t num_records,
                    const std::map<std::string, std::string>& file_hashes);

// Checks everything: records lie one behind the other, parts inside their records, nothing twice.
absl::StatusOr<StoreIndex> ParseStoreIndex(std::string_view text, const std::string& path);
// The same of an index that may have been cut off: the records before the first line that is not
// right, and never whole.
absl::StatusOr<StoreIndex> ParseStoreJournal(std::string_view text, const std::string& path);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_STORE_STORE_INDEX_H_
