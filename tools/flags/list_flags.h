// Values of flags that are lists.
//
//   --stop='\n\n,END'           two stop strings: two newlines, and END
//   --stop_ids=1,17             two ids
//   --logit_bias=5:-100,9:1.5   id 5 banned, id 9 more likely
//
// Commas part the entries, an empty text is an empty list. Inside a stop string \n, \t and \r are
// what they are in C, and a backslash makes a comma or a backslash part of the string; so every
// string can be said.
//
// absl flags: ABSL_FLAG(StopStrings, stop, {}, "..."). What is no such list is refused with the
// entry; whether the values make sense is for the router to say.
#ifndef ORRERY_TOOLS_FLAGS_LIST_FLAGS_H_
#define ORRERY_TOOLS_FLAGS_LIST_FLAGS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace orrery {

struct StopStrings {
  std::vector<std::string> strings;
};
bool AbslParseFlag(absl::string_view text, StopStrings* value, std::string* error);
std::string AbslUnparseFlag(const StopStrings& value);

struct TokenIdList {
  std::vector<int32_t> ids;
};
bool AbslParseFlag(absl::string_view text, TokenIdList* value, std::string* error);
std::string AbslUnparseFlag(const TokenIdList& value);

struct LogitBias {
  std::map<int32_t, float> biases;
};
bool AbslParseFlag(absl::string_view text, LogitBias* value, std::string* error);
std::string AbslUnparseFlag(const LogitBias& value);

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_LIST_FLAGS_H_
