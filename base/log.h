// One line per event on stderr: time, severity, member, message. Thread-safe.
//
//   SetLogName("expert-3");
//   LogInfo("listening on ", address);
//
// No prompt and no answer is ever logged.
#ifndef ORRERY_BASE_LOG_H_
#define ORRERY_BASE_LOG_H_

#include <string_view>

#include "absl/strings/str_cat.h"

namespace orrery {

// Name that stands in every later line of this process; call once, before threads start.
void SetLogName(std::string_view name);

// Leaves out the lines of LogInfo: for commands whose output people read. Call once, before threads
// start.
void SetLogQuiet();

void LogLine(char severity, std::string_view message);

template <typename... Args>
void LogInfo(const Args&... args) {
  LogLine('I', std::string_view(absl::StrCat(args...)));
}
template <typename... Args>
void LogWarning(const Args&... args) {
  LogLine('W', std::string_view(absl::StrCat(args...)));
}
template <typename... Args>
void LogError(const Args&... args) {
  LogLine('E', std::string_view(absl::StrCat(args...)));
}

}  // namespace orrery

#endif  // ORRERY_BASE_LOG_H_
