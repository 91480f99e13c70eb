// host:port, taken apart.
//
//   ASSIGN_OR_RETURN(HostPort address, ParseHostPort("[::1]:7420"));   // host "::1", port 7420
//
// Names are not resolved here, so of names only localhost is known to be this machine.
// Errors: INVALID_ARGUMENT, quoting the text.
#ifndef ORRERY_RPC_ADDRESS_H_
#define ORRERY_RPC_ADDRESS_H_

#include <string>
#include <string_view>

#include "base/status.h"

namespace orrery {

struct HostPort {
  std::string host;  // without brackets
  int port = 0;      // 0..65535
};

absl::StatusOr<HostPort> ParseHostPort(std::string_view text);
// With brackets if the host has colons.
std::string JoinHostPort(const HostPort& address);
// Whether nobody but this machine can be there: localhost, 127.0.0.0/8, ::1.
bool IsLoopback(const HostPort& address);

}  // namespace orrery

#endif  // ORRERY_RPC_ADDRESS_H_
