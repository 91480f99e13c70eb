// Small files of a model directory, read whole.
//
//   ASSIGN_OR_RETURN(std::string text, ReadFile("/models/r1/config.json", kMaxConfigBytes));
//
// Not for weights: those are mapped (safetensors.h).
// Errors: NOT_FOUND if there is no such file, RESOURCE_EXHAUSTED above the limit, else what the
// system says; always with the path.
#ifndef ORRERY_CHECKPOINT_FILE_H_
#define ORRERY_CHECKPOINT_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace orrery {

inline constexpr int64_t kMaxConfigBytes = 16 << 20;
// DeepSeek-V3: 7.8 MB; Llama-3: 9 MB.
inline constexpr int64_t kMaxTokenizerBytes = 256 << 20;
// DeepSeek-V3: about 92,000 tensors, 8.9 MB.
inline constexpr int64_t kMaxIndexBytes = 256 << 20;

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes);

// Whether `path` names something that can be opened as a file, links followed.
bool FileExists(const std::string& path);

// `directory`/`name`.
std::string JoinPath(std::string_view directory, std::string_view name);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_FILE_H_
