// Which model this is, by content: V3 and R1 have the same shapes, so shapes prove nothing.
//
// A member hashes config.json and weights files (XXH3-128: against mix-ups, not adversaries). Two
// members match if their configurations are equal and every file that both know has the same hash.
// A shard hashes the files that hold one of its tensors, so that it starts without the others and
// still proves what it computes with. A rank hashes every file that it finds, although its own
// tensors lie in some of them only: so it catches any shard that was loaded from another model.
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
