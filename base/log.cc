#include "base/log.h"

#include <cstdio>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace orrery {
namespace {

// Written once before threads start (SetLogName), read by all.
std::string& LogName() {
  static std::string* name = new std::string("orrery");
  return *name;
}

// As above, by SetLogQuiet.
bool& LogQuiet() {
  static bool quiet = false;
  return quiet;
}

}  // namespace

void SetLogQuiet() { LogQuiet() = true; }

void SetLogName(std::string_view name) { LogName() = std::string(name); }

void LogLine(char severity, std::string_view message) {
  if (severity == 'I' && LogQuiet()) return;
  const std::string time =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
  // One fprintf, so that lines of several threads do not mix.
  std::fprintf(stderr, "%s %c %s] %.*s\n", time.c_str(), severity, LogName().c_str(),
               static_cast<int>(message.size()), message.data());
}

}  // namespace orrery
