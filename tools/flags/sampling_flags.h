// Flags that say how an answer is made. List kSamplingFlags among the flag files of a command that
// uses them.
#ifndef ORRERY_TOOLS_FLAGS_SAMPLING_FLAGS_H_
#define ORRERY_TOOLS_FLAGS_SAMPLING_FLAGS_H_

#include "absl/flags/declare.h"
#include "absl/time/time.h"
#include "proto/orrery.pb.h"

ABSL_DECLARE_FLAG(absl::Duration, timeout);

namespace orrery {

inline constexpr char kSamplingFlags[] = "tools/flags/sampling_flags.cc";

// A request without prompt.
v1::GenerateRequest RequestFromFlags();

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_SAMPLING_FLAGS_H_
