// --tls, --allow_plain_text and --trust_domain, for commands that make certificates, start clusters with them or talk to such clusters.
// List kTlsFlags among the flag files of such a command.
#ifndef ORRERY_TOOLS_FLAGS_TLS_FLAGS_H_
#define ORRERY_TOOLS_FLAGS_TLS_FLAGS_H_

#include <string>

#include "absl/flags/declare.h"

ABSL_DECLARE_FLAG(std::string, tls);
ABSL_DECLARE_FLAG(bool, allow_plain_text);
ABSL_DECLARE_FLAG(std::string, trust_domain);

namespace orrery {

inline constexpr char kTlsFlags[] = "tools/flags/tls_flags.cc";

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_TLS_FLAGS_H_
