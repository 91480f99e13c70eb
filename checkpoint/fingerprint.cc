#include "checkpoint/fingerprint.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "xxhash.h"

namespace orrery {
namespace {

std::string Short(const std::string& hash) {
  return hash.empty() ? "(none)" : absl::StrCat(hash.substr(0, 8), "...");
}

}  // namespace

std::string Fingerprint::ToString() const {
  std::string text = absl::StrCat("config ", Short(config_hash));
  if (files.empty()) return absl::StrCat(text, ", no weights");
  absl::StrAppend(&text, ", ", files.begin()->first, " ", Short(files.begin()->second));
  if (files.size() > 1) {
    absl::StrAppend(&text, " (+", files.size() - 1, files.size() == 2 ? " file)" : " files)");
  }
  return text;
}

std::string ContentHash(absl::Span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

absl::Status CheckSameModel(const Fingerprint& ours, const Fingerprint& theirs) {
  if (ours.config_hash != theirs.config_hash) {
    return absl::FailedPreconditionError(absl::StrCat("config.json differs: ours has content hash ",
                                                      ours.config_hash, ", theirs ",
                                                      theirs.config_hash));
  }
  for (const auto& [name, hash] : ours.files) {
    const auto found = theirs.files.find(name);
    if (found != theirs.files.end() && found->second != hash) {
      return absl::FailedPreconditionError(absl::StrCat("the weights differ: our ", name,
                                                        " has content hash ", hash, ", theirs ",
                                                        found->second));
    }
  }
  return absl::OkStatus();
}

void MergeFingerprint(const Fingerprint& theirs, Fingerprint& ours) {
  if (ours.config_hash.empty()) ours.config_hash = theirs.config_hash;
  ours.files.insert(theirs.files.begin(), theirs.files.end());
}

}  // namespace orrery
