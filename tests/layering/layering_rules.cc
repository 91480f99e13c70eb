#include "tests/layering/layering_rules.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/layering/floor_plan.h"

namespace orrery {
namespace {

// Folders without code of ours: anybody may use what lies there.
bool IsOutsideThePlan(const std::string& folder) {
  const std::string top = folder.substr(0, folder.find('/'));
  return folder.empty() || top == "third_party" || top == "models" || top == "deploy" ||
         absl::StartsWith(folder + "/", "tests/data/");
}

bool IsCode(const std::string& path) {
  for (const char* extension : {".h", ".cc", ".cu", ".cuh"}) {
    if (absl::EndsWith(path, extension)) return true;
  }
  return false;
}

bool IsBuildFile(const std::string& path) {
  return path == "BUILD" || absl::EndsWith(path, "/BUILD");
}

// Files that only test rules name: foo_test.cc, and what several tests share.
std::set<std::string> TestFiles(const SourceTree& tree) {
  std::set<std::string> of_tests, of_others;
  for (const auto& [path, text] : tree) {
    if (!IsBuildFile(path)) continue;
    for (const BuildRule& rule : ParseBuild(text)) {
      for (const std::string& file : rule.Files()) {
        (rule.is_test() ? of_tests : of_others).insert(absl::StrCat(FolderOf(path), "/", file));
      }
    }
  }
  for (const std::string& file : of_others) of_tests.erase(file);
  return of_tests;
}

bool Exists(const SourceTree& tree, const std::string& path) {
  if (tree.count(path) > 0) return true;
  for (const char* generated : {".grpc.pb.h", ".pb.h"}) {
    if (!absl::EndsWith(path, generated)) continue;
    const std::string stem = path.substr(0, path.size() - std::string(generated).size());
    return tree.count(stem + ".proto") > 0;
  }
  return false;
}

bool IsTopFolder(const SourceTree& tree, const std::string& path) {
  const std::string top = path.substr(0, path.find('/') + 1);
  const auto it = tree.lower_bound(top);
  return !top.empty() && it != tree.end() && absl::StartsWith(it->first, top);
}

std::string At(const std::string& path, int line) { return absl::StrCat(path, ":", line, ": "); }

std::string NotAllowed(const FolderRule& rule, const std::string& what) {
  std::vector<std::string> allowed(rule.may_include.begin(), rule.may_include.end());
  return absl::StrCat(std::string(rule.folder), " may not include ", what, "; it may include ",
                      allowed.empty() ? "no folder" : absl::StrJoin(allowed, ", "));
}

// The library that a header belongs to; null for one that everybody may use.
const LibraryRule* LibraryOfHeader(const std::string& header) {
  for (const LibraryRule& library : Libraries()) {
    for (std::string_view beginning : library.headers) {
      if (absl::StartsWith(header, std::string(beginning))) return &library;
    }
  }
  return nullptr;
}

bool MayUse(const FolderRule& rule, const LibraryRule& library) {
  if (rule.may_include_everything) return true;
  const auto& folders = library.folders;
  return std::find(folders.begin(), folders.end(), rule.folder) != folders.end();
}

struct IncludeContext {
  const SourceTree& tree;
  const std::set<std::string>& test_files;
};

void CheckInclude(const IncludeContext& context, const std::string& path, const Include& include,
                  Violations& violations) {
  const FolderRule* rule = FindFolder(FolderOf(path));
  if (rule == nullptr) return;  // CheckFolders speaks of it
  const bool for_tests = rule->may_include_everything || context.test_files.count(path) > 0;
  const std::string at = At(path, include.line);
  if (include.quoted && IsTopFolder(context.tree, include.path)) {
    const std::string folder = FolderOf(include.path);
    if (!Exists(context.tree, include.path)) {
      violations.push_back(absl::StrCat(at, include.path, " does not exist"));
    }
    if (for_tests ? !TestMayInclude(*rule, folder) : !MayInclude(*rule, folder)) {
      violations.push_back(at + NotAllowed(*rule, include.path));
    }
    if (!for_tests && context.test_files.count(include.path) > 0) {
      violations.push_back(absl::StrCat(at, include.path, " is for tests only"));
    }
    return;
  }
  const LibraryRule* library = LibraryOfHeader(include.path);
  if (include.quoted && library == nullptr && !absl::StrContains(include.path, "/")) {
    violations.push_back(absl::StrCat(at, "\"", include.path, "\" does not start at the root"));
  }
  if (for_tests) return;
  if (library != nullptr && !MayUse(*rule, *library)) {
    violations.push_back(at + NotAllowed(*rule, include.path));
  }
  if (absl::StartsWith(include.path, "gtest/") || absl::StartsWith(include.path, "gmock/")) {
    violations.push_back(absl::StrCat(at, include.path, " is for tests only"));
  }
}

void CheckDependency(const std::string& path, const BuildRule& build_rule, const std::string& label,
                     Violations& violations) {
  const FolderRule* rule = FindFolder(FolderOf(path));
  const std::string at = At(path, build_rule.line) + build_rule.name() + ": ";
  for (const LibraryRule& library : Libraries()) {
    if (!absl::StartsWith(label, std::string(library.label))) continue;
    if (!build_rule.is_test() && !MayUse(*rule, library)) {
      violations.push_back(at + NotAllowed(*rule, label));
    }
    return;
  }
  if (absl::StartsWith(label, "@")) return;
  const std::string package = LabelPackage(label);
  if (IsOutsideThePlan(package)) return;
  const bool allowed =
      build_rule.is_test() ? TestMayInclude(*rule, package) : MayInclude(*rule, package);
  if (!allowed) violations.push_back(at + NotAllowed(*rule, label));
}

// "//services/router", and "//tests/..." for folders that may include everything.
std::set<std::string> UsersOf(const FolderRule& used) {
  std::set<std::string> users;
  for (const FolderRule& rule : FloorPlan()) {
    if (rule.folder != used.folder && !TestMayInclude(rule, used.folder)) continue;
    users.insert(
        absl::StrCat("//", std::string(rule.folder), rule.may_include_everything ? "/..." : ""));
  }
  return users;
}

std::string Join(const std::set<std::string>& items) { return absl::StrJoin(items, ", "); }

}  // namespace

Violations CheckFolders(const SourceTree& tree) {
  std::set<std::string> unknown;
  for (const auto& [path, text] : tree) {
    const std::string folder = FolderOf(path);
    if (IsOutsideThePlan(folder) && !(folder.empty() && IsCode(path))) continue;
    if (!IsCode(path) && !IsBuildFile(path) && !absl::EndsWith(path, ".proto")) continue;
    if (FindFolder(folder) == nullptr) unknown.insert(folder);
  }
  Violations violations;
  for (const std::string& folder : unknown) {
    violations.push_back(absl::StrCat(folder.empty() ? "the root" : folder,
                                      ": holds code but is not in the floor plan"));
  }
  return violations;
}

Violations CheckIncludes(const SourceTree& tree) {
  Violations violations;
  const std::set<std::string> test_files = TestFiles(tree);
  for (const auto& [path, text] : tree) {
    if (!IsCode(path)) continue;
    for (const Include& include : Includes(text)) {
      CheckInclude({tree, test_files}, path, include, violations);
    }
  }
  return violations;
}

Violations CheckBuildDependencies(const SourceTree& tree) {
  Violations violations;
  for (const auto& [path, text] : tree) {
    if (!IsBuildFile(path) || FindFolder(FolderOf(path)) == nullptr) continue;
    for (const BuildRule& rule : ParseBuild(text)) {
      for (const std::string& label : rule.Dependencies()) {
        CheckDependency(path, rule, label, violations);
      }
    }
  }
  return violations;
}

Violations CheckVisibility(const SourceTree& tree) {
  Violations violations;
  std::map<std::string, std::set<std::string>> groups;
  if (const auto root = tree.find("BUILD"); root != tree.end()) {
    for (BuildRule& rule : ParseBuild(root->second)) {
      if (rule.kind != "package_group") continue;
      const std::vector<std::string>& packages = rule.strings["packages"];
      groups[rule.name()] = {packages.begin(), packages.end()};
    }
  }
  for (const FolderRule& rule : FloorPlan()) {
    const std::string name = UsersGroup(rule.folder);
    if (groups[name] == UsersOf(rule)) continue;
    violations.push_back(absl::StrCat("BUILD: package_group ", name, " has [", Join(groups[name]),
                                      "], the floor plan [", Join(UsersOf(rule)), "]"));
  }
  for (const auto& [path, text] : tree) {
    const FolderRule* folder = FindFolder(FolderOf(path));
    if (!IsBuildFile(path) || IsOutsideThePlan(FolderOf(path)) || folder == nullptr) continue;
    const std::string wanted = "//:" + UsersGroup(folder->folder);
    bool found = false;
    for (const BuildRule& rule : ParseBuild(text)) {
      for (const auto& [argument, labels] : rule.strings) {
        if (argument != "visibility" && argument != "default_visibility") continue;
        for (const std::string& label : labels) {
          found |= rule.kind == "package" && label == wanted;
          if (label == wanted || label == "//visibility:private") continue;
          violations.push_back(
              absl::StrCat(At(path, rule.line), label, " is visible to others than ", wanted));
        }
      }
    }
    if (!found) violations.push_back(absl::StrCat(path, ": default_visibility is not ", wanted));
  }
  return violations;
}

Violations CheckFilesAreBuilt(const SourceTree& tree) {
  std::set<std::string> built;
  for (const auto& [path, text] : tree) {
    if (!IsBuildFile(path)) continue;
    for (const BuildRule& rule : ParseBuild(text)) {
      for (const std::string& file : rule.Files()) {
        built.insert(absl::StrCat(FolderOf(path), "/", file));
      }
      const auto shared = rule.strings.find("");
      if (shared == rule.strings.end()) continue;
      for (const std::string& file : shared->second) {
        built.insert(absl::StrCat(FolderOf(path), "/", file));
      }
    }
  }
  Violations violations;
  for (const auto& [path, text] : tree) {
    if (!IsCode(path) || IsOutsideThePlan(FolderOf(path)) || built.count(path) > 0) continue;
    std::string package = FolderOf(path);
    while (!package.empty() && tree.count(package + "/BUILD") == 0) package = FolderOf(package);
    violations.push_back(absl::StrCat(path, ": no rule of ", package.empty() ? "" : package + "/",
                                      "BUILD names it"));
  }
  return violations;
}

Violations CheckIncludeGuards(const SourceTree& tree) {
  Violations violations;
  for (const auto& [path, text] : tree) {
    if (!absl::EndsWith(path, ".h") || IsOutsideThePlan(FolderOf(path))) continue;
    std::string guard = "ORRERY_" + absl::AsciiStrToUpper(path) + "_";
    std::replace_if(
        guard.begin(), guard.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
    const std::string opening = absl::StrCat("#ifndef ", guard, "\n#define ", guard, "\n");
    const std::string closing = absl::StrCat("#endif  // ", guard, "\n");
    if (!absl::StrContains(text, opening) || !absl::EndsWith(text, closing)) {
      violations.push_back(absl::StrCat(path, ": has no include guard ", guard,
                                        " from its first directive to its last line"));
    }
  }
  return violations;
}

}  // namespace orrery
