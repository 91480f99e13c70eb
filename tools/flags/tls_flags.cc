#include "tools/flags/tls_flags.h"

#include "absl/flags/flag.h"
#include "rpc/tls/tls_files.h"

ABSL_FLAG(std::string, tls, "",
          "folder that `orrery certs` made, for a cluster to be started; for a client one with "
          "tls.crt, tls.key "
          "and ca.crt will do; empty: plain text, or what --cluster says");
ABSL_FLAG(bool, allow_plain_text, false,
          "ask a router on another machine without TLS, which everybody on the way can read");
ABSL_FLAG(std::string, trust_domain, orrery::kDefaultTrustDomain,
          "of the names in certificates: spiffe://TRUST_DOMAIN/ROLE");
