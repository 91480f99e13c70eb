#include "tests/layering/document_tables.h"

#include <cctype>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tests/layering/floor_plan.h"

namespace orrery {
namespace {

std::vector<std::string> Lines(std::string_view text) {
  return absl::StrSplit(std::string(text), '\n');
}

std::string WithoutSlash(std::string folder) {
  if (absl::EndsWith(folder, "/")) folder.pop_back();
  return folder;
}

bool MentionsWord(const std::string& text, const std::string& word) {
  const auto is_letter = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !is_letter(text[at - 1])) && (end == text.size() || !is_letter(text[end]))) {
      return true;
    }
  }
  return false;
}

// The rule as the table shows it: sorted folders, or "everything"; test-only permissions behind
// "tests:".
std::string Describe(const std::set<std::string>& folders, const std::set<std::string>& tests,
                     bool everything) {
  return absl::StrCat(everything ? "everything" : absl::StrJoin(folders, ", "),
                      tests.empty() ? "" : "; tests: ", absl::StrJoin(tests, ", "));
}

std::set<std::string> Folders(std::string_view cell) {
  std::set<std::string> folders;
  for (const std::string& span : CodeSpans(cell)) folders.insert(WithoutSlash(span));
  return folders;
}

}  // namespace

std::vector<std::vector<std::string>> TableUnder(std::string_view markdown,
                                                 std::string_view title) {
  std::vector<std::vector<std::string>> rows;
  bool below = false;
  for (const std::string& line : Lines(markdown)) {
    if (absl::StartsWith(line, "## ")) {
      below = line == absl::StrCat("## ", std::string(title));
    } else if (below && absl::StartsWith(line, "|")) {
      std::vector<std::string> cells = absl::StrSplit(line, '|');
      cells.erase(cells.begin());
      if (!cells.empty()) cells.pop_back();
      for (std::string& cell : cells) absl::StripAsciiWhitespace(&cell);
      rows.push_back(std::move(cells));
    } else if (!rows.empty()) {
      break;
    }
  }
  if (rows.size() < 2) return {};
  return {rows.begin() + 2, rows.end()};
}

std::vector<std::string> CodeSpans(std::string_view cell) {
  std::vector<std::string> spans;
  const std::vector<std::string> parts = absl::StrSplit(std::string(cell), '`');
  for (size_t i = 1; i < parts.size(); i += 2) spans.push_back(parts[i]);
  return spans;
}

Violations CheckFloorPlanTable(std::string_view markdown) {
  std::map<std::string, std::string> documented;
  for (const std::vector<std::string>& row : TableUnder(markdown, "Floor plan")) {
    if (row.size() < 3) continue;
    const std::vector<std::string> halves = absl::StrSplit(row[2], absl::MaxSplits("tests:", 1));
    const std::string rule =
        Describe(Folders(halves[0]), halves.size() > 1 ? Folders(halves[1]) : Folders(""),
                 absl::StrContains(row[2], "everything"));
    for (const std::string& folder : CodeSpans(row[0])) documented[WithoutSlash(folder)] = rule;
  }
  Violations violations;
  for (const FolderRule& rule : FloorPlan()) {
    const std::string folder(rule.folder);
    const std::string planned =
        Describe({rule.may_include.begin(), rule.may_include.end()},
                 {rule.tests_may_include.begin(), rule.tests_may_include.end()},
                 rule.may_include_everything);
    const auto it = documented.find(folder);
    if (it == documented.end()) {
      violations.push_back(absl::StrCat(folder, " is missing in the floor plan table"));
      continue;
    }
    if (it->second != planned) {
      violations.push_back(absl::StrCat(folder, ": the table says [", it->second,
                                        "], tests/layering/floor_plan.cc [", planned, "]"));
    }
    documented.erase(it);
  }
  for (const auto& [folder, rule] : documented) {
    if (rule.empty()) continue;  // folders without code of ours, such as third_party/
    violations.push_back(absl::StrCat(folder, " is in the table but not in floor_plan.cc"));
  }
  return violations;
}

Violations CheckTokenPathTable(std::string_view markdown, const SourceTree& tree) {
  const auto rows = TableUnder(markdown, "The path of a token");
  if (rows.empty()) return {"there is no table under \"## The path of a token\""};
  Violations violations;
  for (const std::vector<std::string>& row : rows) {
    if (row.size() < 4 || CodeSpans(row[1]).size() != 1) {
      violations.push_back(
          absl::StrCat("stop ", row[0], ": wants one `file` in its second column"));
      continue;
    }
    const std::string file = CodeSpans(row[1])[0];
    const auto it = tree.find(file);
    if (it == tree.end()) {
      violations.push_back(absl::StrCat("stop ", row[0], ": ", file, " does not exist"));
      continue;
    }
    for (const std::string& name : CodeSpans(row[2])) {
      if (MentionsWord(it->second, name)) continue;
      violations.push_back(absl::StrCat("stop ", row[0], ": ", file, " has no ", name));
    }
  }
  return violations;
}

Violations CheckLinks(std::string_view markdown, const std::string& path,
                      bool (*exists)(const std::string& path)) {
  Violations violations;
  const std::string text(markdown);
  for (size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at + 1)) {
    const size_t end = text.find_first_of(")\n", at);
    std::string target = text.substr(at + 2, end - at - 2);
    target = target.substr(0, target.find('#'));
    if (target.empty() || absl::StrContains(target, "://")) continue;
    const std::string folder = FolderOf(path);
    const std::string from_root = folder.empty() ? target : absl::StrCat(folder, "/", target);
    if (!exists(from_root)) {
      violations.push_back(absl::StrCat(path, ": the link to ", target, " leads nowhere"));
    }
  }
  return violations;
}

}  // namespace orrery
