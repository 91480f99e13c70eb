// A fingerprint as members tell it to each other, and back.
#ifndef ORRERY_MODEL_IDENTITY_FINGERPRINT_PROTO_H_
#define ORRERY_MODEL_IDENTITY_FINGERPRINT_PROTO_H_

#include "checkpoint/fingerprint.h"
#include "proto/member.pb.h"

namespace orrery {

internal::ModelFingerprint ToProto(const Fingerprint& fingerprint);
Fingerprint FromProto(const internal::ModelFingerprint& proto);

}  // namespace orrery

#endif  // ORRERY_MODEL_IDENTITY_FINGERPRINT_PROTO_H_
