// Which model this is, by content: V3 and R1 have the same shapes, so shapes prove nothing.
//
// A member hashes config.json and each weights file that holds one of its tensors (XXH3-128:
// against mix-ups, not adversaries). Two members match if their configurations are equal and every
// file that both know has the same hash. A member that was given only some of the files therefore
// still proves what it has, and a rank, whose tensors lie in nearly all files, catches every shard
// that was loaded from another model.
#ifndef ORRERY_CHECKPOINT_FINGERPRINT_H_
#define ORRERY_CHECKPOINT_FINGERPRINT_H_

#include <cstddef>
#include <map>
#include <string>

#include "absl/types/span.h"
#include "base/status.h"

namespace orrery {

struct Fingerprint {
  std::string config_hash;                   // 32 hex digits
  std::map<std::string, std::string> files;  // file name -> 32 hex digits

  // For messages: "config 1f3a..., model.safetensors 9c07... (+3 files)".
  std::string ToString() const;
};

// XXH3-128 as 32 hex digits.
std::string ContentHash(absl::Span<const std::byte> bytes);

// OK, or FAILED_PRECONDITION with the name of what differs and both values.
absl::Status CheckSameModel(const Fingerprint& ours, const Fingerprint& theirs);

// Adds what `theirs` knows; they must match.
void MergeFingerprint(const Fingerprint& theirs, Fingerprint& ours);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_FINGERPRINT_H_
