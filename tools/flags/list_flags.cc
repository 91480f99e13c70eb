#include "tools/flags/list_flags.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace orrery {
namespace {

// Escape letters and what they stand for, at the same places.
constexpr char kLetters[] = "ntr,\\";
constexpr char kMeanings[] = "\n\t\r,\\";

// The entries of a list without escapes.
std::vector<absl::string_view> Entries(absl::string_view text) {
  if (text.empty()) return {};
  return absl::StrSplit(text, ',');
}

}  // namespace

bool AbslParseFlag(absl::string_view text, StopStrings* value, std::string* error) {
  value->strings.clear();
  if (text.empty()) return true;
  std::string current;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ',') {
      value->strings.push_back(std::exchange(current, ""));
    } else if (text[i] != '\\') {
      current += text[i];
    } else {
      const size_t letter =
          i + 1 < text.size() ? absl::string_view(kLetters).find(text[i + 1]) : std::string::npos;
      if (letter == std::string::npos) {
        *error = absl::StrCat("\"", text.substr(i, 2),
                              "\" means nothing; there are \\n, \\t, \\r, \\, and \\\\");
        return false;
      }
      current += kMeanings[letter];
      ++i;
    }
  }
  value->strings.push_back(std::move(current));
  return true;
}

std::string AbslUnparseFlag(const StopStrings& value) {
  return absl::StrJoin(value.strings, ",", [](std::string* out, const std::string& text) {
    for (const char c : text) {
      const size_t meaning = absl::string_view(kMeanings).find(c);
      if (meaning == std::string::npos) {
        *out += c;
      } else {
        absl::StrAppend(out, "\\", std::string(1, kLetters[meaning]));
      }
    }
  });
}

bool AbslParseFlag(absl::string_view text, TokenIdList* value, std::string* error) {
  value->ids.clear();
  for (const absl::string_view entry : Entries(text)) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(entry, &id)) {
      *error = absl::StrCat("\"", entry, "\" is no id");
      return false;
    }
    value->ids.push_back(id);
  }
  return true;
}

std::string AbslUnparseFlag(const TokenIdList& value) { return absl::StrJoin(value.ids, ","); }

bool AbslParseFlag(absl::string_view text, LogitBias* value, std::string* error) {
  value->biases.clear();
  for (const absl::string_view entry : Entries(text)) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(entry, absl::MaxSplits(':', 1));
    int32_t id = 0;
    float bias = 0.0f;
    if (!absl::SimpleAtoi(parts.first, &id) || !absl::SimpleAtof(parts.second, &bias)) {
      *error = absl::StrCat("\"", entry, "\" is not ID:VALUE, like 17:-100");
      return false;
    }
    if (!value->biases.emplace(id, bias).second) {
      *error = absl::StrCat("id ", id, " stands twice");
      return false;
    }
  }
  return true;
}

std::string AbslUnparseFlag(const LogitBias& value) {
  return absl::StrJoin(value.biases, ",", absl::PairFormatter(":"));
}

}  // namespace orrery
