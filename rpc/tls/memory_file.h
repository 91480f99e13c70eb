// A file without a disk, whose content is replaced at once: who opens its path sees the old text or the
// new one.
//
//   MemoryFile file;
//   RETURN_IF_ERROR(file.Replace(text));
//   std::ifstream(file.path())
//
// Only this process can open it; its children do not inherit it.
// Errors: RESOURCE_EXHAUSTED or the like, of the system. Threads: one that replaces, any that read.
#ifndef ORRERY_RPC_TLS_MEMORY_FILE_H_
#define ORRERY_RPC_TLS_MEMORY_FILE_H_

#include <string>

#include "base/status.h"

namespace orrery {

class MemoryFile {
 public:
  MemoryFile() = default;
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  absl::Status Replace(const std::string& text);
  // The same for life, from the first Replace on.
  std::string path() const;

 private:
  int fd_ = -1;
};

}  // namespace orrery

#endif  // ORRERY_RPC_TLS_MEMORY_FILE_H_
