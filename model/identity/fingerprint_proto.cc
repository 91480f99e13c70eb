#include "model/identity/fingerprint_proto.h"

namespace orrery {

internal::ModelFingerprint ToProto(const Fingerprint& fingerprint) {
  internal::ModelFingerprint proto;
  proto.set_config_hash(fingerprint.config_hash);
  for (const auto& [file, hash] : fingerprint.files) (*proto.mutable_files())[file] = hash;
  return proto;
}

Fingerprint FromProto(const internal::ModelFingerprint& proto) {
  Fingerprint fingerprint;
  fingerprint.config_hash = proto.config_hash();
  for (const auto& [file, hash] : proto.files()) fingerprint.files[file] = hash;
  return fingerprint;
}

}  // namespace orrery
