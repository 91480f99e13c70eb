// The floor plan: which folder may include which, as data. This is the one place that says so;
// ARCHITECTURE.md shows the same table, the package_groups of the top-level BUILD enforce it in
// Bazel, and layering_test compares all three with the sources.
//
//   const FolderRule* rule = FindFolder("services/router");
//   MayInclude(*rule, "kernels");   // false
#ifndef ORRERY_TESTS_LAYERING_FLOOR_PLAN_H_
#define ORRERY_TESTS_LAYERING_FLOOR_PLAN_H_

#include <string>
#include <string_view>
#include <vector>

namespace orrery {

struct FolderRule {
  std::string_view folder;
  // Folders, without what lies below them. A folder may always include itself.
  std::vector<std::string_view> may_include;
  // Further folders for its unit tests.
  std::vector<std::string_view> tests_may_include = {};
  // tests/ and tools/: everything, also from folders below them.
  bool may_include_everything = false;
};

// A library that is not for everybody. (Abseil is; GoogleTest is for tests.)
struct LibraryRule {
  std::string_view label;                 // "//third_party/grpc"
  std::vector<std::string_view> headers;  // beginnings of what stands between the quotes
  std::vector<std::string_view> folders;  // who may use it, besides tests/ and tools/
};

const std::vector<FolderRule>& FloorPlan();
const std::vector<LibraryRule>& Libraries();

// The rule for the files that lie directly in `folder`; null if the floor plan does not know it.
const FolderRule* FindFolder(std::string_view folder);

// Whether a source file of the rule's folder may include a file of `folder`.
bool MayInclude(const FolderRule& rule, std::string_view folder);
// The same for its unit tests.
bool TestMayInclude(const FolderRule& rule, std::string_view folder);

// Name of the package_group in the top-level BUILD whose members may depend on `folder`:
// "users_of_kernels_cpu".
std::string UsersGroup(std::string_view folder);

}  // namespace orrery

#endif  // ORRERY_TESTS_LAYERING_FLOOR_PLAN_H_
