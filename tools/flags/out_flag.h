// --out, for commands that write a folder. List kOutFlag among the flag files of such a command.
#ifndef ORRERY_TOOLS_FLAGS_OUT_FLAG_H_
#define ORRERY_TOOLS_FLAGS_OUT_FLAG_H_

#include <string>

#include "absl/flags/declare.h"

ABSL_DECLARE_FLAG(std::string, out);

namespace orrery {

inline constexpr char kOutFlag[] = "tools/flags/out_flag.cc";

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_OUT_FLAG_H_
