// One safetensors file, memory-mapped and validated.
//
//   u64 little-endian N | N bytes of JSON header | data (offsets relative to here)
//
// Opening checks the whole header: its length against the file, that each tensor's bytes equal
// shape times size and lie inside the file, and that tensors neither overlap nor leave holes.
// Format: huggingface/safetensors README.
//
// Errors: NOT_FOUND (no such file), DATA_LOSS (everything wrong inside it), always with the path,
// and with the tensor where there is one. A file that is truncated while it is mapped kills the
// reader (SIGBUS), as with every mapping: replace checkpoint files by renaming.
#ifndef ORRERY_CHECKPOINT_SAFETENSORS_H_
#define ORRERY_CHECKPOINT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/dtypes.h"
#include "base/status.h"

namespace orrery {

// A tensor inside a mapped file: row major, little-endian, any alignment. Valid while its file is
// open.
struct TensorView {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  size_t num_bytes = 0;
};

class SafetensorsFile {
 public:
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  // Tensors of a dtype that we do not read (I64, F8_E5M2, ...): name -> dtype as the file calls it.
  const std::map<std::string, std::string>& unreadable_tensors() const { return unreadable_; }
  // The whole file, header included.
  absl::Span<const std::byte> bytes() const { return {map_, num_bytes_}; }
  // These bytes of the file were read for now: their pages no longer count as this process's memory.
  // They may be read again, which takes them from the page cache or the disk.
  static void Forget(absl::Span<const std::byte> bytes);

 private:
  SafetensorsFile() = default;
  absl::Status Map();
  absl::Status ParseHeader();

  std::string path_;
  const std::byte* map_ = nullptr;
  size_t num_bytes_ = 0;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> unreadable_;
};

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_SAFETENSORS_H_
