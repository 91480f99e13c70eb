#include "rpc/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <charconv>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace orrery {

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const auto error = [text](std::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", std::string(text), "\": ", std::string(what)));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return error("expected host:port");
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return error("an IPv6 host needs brackets, as in [::1]:7420");
  }
  if (host.empty()) return error("the host is empty");
  int port = -1;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (code != std::errc() || end != digits.data() + digits.size() || port < 0 || port > 65535) {
    return error("the port must be a number from 0 to 65535");
  }
  return HostPort{.host = std::string(host), .port = port};
}

std::string JoinHostPort(const HostPort& address) {
  const bool brackets = address.host.find(':') != std::string::npos;
  return absl::StrCat(brackets ? "[" : "", address.host, brackets ? "]" : "", ":", address.port);
}

bool IsLoopback(const HostPort& address) {
  if (absl::EqualsIgnoreCase(address.host, "localhost")) return true;
  in_addr v4;
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, address.host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace orrery
