// Makes a packed store, record by record; begun again after an interruption, it goes on.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<StoreWriter> writer, StoreWriter::Open(dir, identity, progress));
//   if (!writer->Has(key)) RETURN_IF_ERROR(writer->Add(key, {{"gate", bytes}, ...}));
//   RETURN_IF_ERROR(writer->Finish(file_hashes));
//
// Until Finish the store is none: its index has another name, and holds a line per record that was
// written. Open reads those records again, and keeps the ones before the first that is damaged; of
// another identity it keeps nothing. One writer at a time: a lock in the directory refuses a second.
//
// Threads: one owner. Errors: FAILED_PRECONDITION while another writes; what the system says.
#ifndef ORRERY_CHECKPOINT_STORE_STORE_WRITER_H_
#define ORRERY_CHECKPOINT_STORE_STORE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "checkpoint/store/store_file.h"
#include "checkpoint/store/store_index.h"

namespace orrery {

class StoreWriter {
 public:
  struct Part {
    std::string name;
    absl::Span<const std::byte> bytes;
  };

  // Makes the directory. on_kept: called for each record that is there already.
  static absl::StatusOr<std::unique_ptr<StoreWriter>> Open(
      const std::string& dir, const StoreIdentity& identity,
      const std::function<void(const StoreRecord&)>& on_kept);
  ~StoreWriter();

  bool Has(const std::string& key) const { return keys_.count(key) > 0; }
  // The key must be new, and have parts.
  absl::Status Add(const std::string& key, absl::Span<const Part> parts);
  // Makes it whole, on the disk. file_hashes: content of the files that it was made from.
  absl::Status Finish(const std::map<std::string, std::string>& file_hashes);

 private:
  StoreWriter(std::string dir, StoreFile records, StoreFile journal)
      : dir_(std::move(dir)), records_(std::move(records)), journal_(std::move(journal)) {}
  // Keeps the good records of the journal, if it is of this identity.
  absl::Status Resume(const StoreIdentity& identity,
                      const std::function<void(const StoreRecord&)>& on_kept);
  absl::Status AddLine(const std::string& line);

  const std::string dir_;
  StoreFile records_;
  StoreFile journal_;
  std::string lines_;  // what the journal holds
  int64_t num_bytes_ = 0;
  std::set<std::string> keys_;
};

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_STORE_STORE_WRITER_H_
