// The source tree as the layering test sees it: texts by path, and what they refer to.
//
//   SourceTree tree = ReadSourceTree(root);
//   for (const Include& include : Includes(tree.at("base/log.cc"))) ...
//
// In tests of the test it is a map literal. The BUILD parser knows as much of Starlark as our BUILD
// files use: rules with keyword arguments and string literals; it is not an evaluator.
#ifndef ORRERY_TESTS_LAYERING_SOURCE_TREE_H_
#define ORRERY_TESTS_LAYERING_SOURCE_TREE_H_

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace orrery {

// Text of every C++, proto, BUILD and Markdown file, by path from the root.
using SourceTree = std::map<std::string, std::string>;

// Reads everything but hidden folders and Bazel's links.
SourceTree ReadSourceTree(const std::filesystem::path& root);

// The root of the checkout that this test was built from.
std::filesystem::path WorkspaceRoot();

struct Include {
  int line = 0;
  bool quoted = false;  // "...", else <...>
  std::string path;
};
std::vector<Include> Includes(std::string_view text);

// One call in a BUILD file, such as cc_library(...), or a list of strings that rules share, such as
// FILES = [...].
struct BuildRule {
  int line = 0;
  std::string kind;  // "cc_library"
  std::map<std::string, std::vector<std::string>>
      strings;  // by argument, "" for those of no argument; no keys of dicts

  std::string name() const;
  bool is_test() const;
  // Its sources and headers; srcs = [name + ".cc"] in a comprehension gives all of them.
  std::vector<std::string> Files() const;
  // Labels of other packages that it builds on ("//a/b:c", "@cuda//:x").
  std::vector<std::string> Dependencies() const;
};
std::vector<BuildRule> ParseBuild(std::string_view text);

// "//a/b:c" and "//a/b" -> "a/b".
std::string LabelPackage(std::string_view label);

// "a/b/c.h" -> "a/b"; "" for a file at the root.
std::string FolderOf(std::string_view path);

}  // namespace orrery

#endif  // ORRERY_TESTS_LAYERING_SOURCE_TREE_H_
