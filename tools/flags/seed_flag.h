// --seed, for commands with something random. List kSeedFlag among the flag files of such a command.
#ifndef ORRERY_TOOLS_FLAGS_SEED_FLAG_H_
#define ORRERY_TOOLS_FLAGS_SEED_FLAG_H_

#include <cstdint>

#include "absl/flags/declare.h"

ABSL_DECLARE_FLAG(int64_t, seed);

namespace orrery {

inline constexpr char kSeedFlag[] = "tools/flags/seed_flag.cc";

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_SEED_FLAG_H_
