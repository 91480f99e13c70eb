// ARCHITECTURE.md says the truth where a program can check it, and so do the links of every
// document.
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/layering/document_tables.h"
#include "tests/layering/source_tree.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void ExpectNone(const Violations& violations) {
  EXPECT_TRUE(violations.empty()) << absl::StrJoin(violations, "\n");
}

bool ExistsInWorkspace(const std::string& path) {
  return std::filesystem::exists(WorkspaceRoot() / path);
}

TEST(Architecture, HasTheFloorPlanThatIsEnforced) {
  ExpectNone(CheckFloorPlanTable(ReadSourceTree(WorkspaceRoot())["ARCHITECTURE.md"]));
}

TEST(Architecture, NamesFilesAndFunctionsThatExistOnThePathOfAToken) {
  SourceTree tree = ReadSourceTree(WorkspaceRoot());
  ExpectNone(CheckTokenPathTable(tree["ARCHITECTURE.md"], tree));
}

TEST(Documents, LinkToWhatExists) {
  for (const auto& [path, text] : ReadSourceTree(WorkspaceRoot())) {
    if (absl::EndsWith(path, ".md")) ExpectNone(CheckLinks(text, path, &ExistsInWorkspace));
  }
}

// Seeded violations.

TEST(TableUnder, ReadsTheTableBelowItsHeadingOnly) {
  const std::string text =
      "## A\n| x |\n|---|\n| 1 |\n\n## B\ntext\n| y | z |\n|---|---|\n| `2` | 3 |\n| 4 | 5 "
      "|\ntext\n| 6 |\n";
  EXPECT_THAT(TableUnder(text, "B"), ElementsAre(ElementsAre("`2`", "3"), ElementsAre("4", "5")));
  EXPECT_THAT(TableUnder(text, "C"), IsEmpty());
}

TEST(FloorPlanTable, IsComparedBothWays) {
  const Violations violations = CheckFloorPlanTable(
      "## Floor plan\n| Folder | What | May include |\n|---|---|---|\n"
      "| `base/` | | |\n| `placement/` | | `base/`, `proto/` |\n| `attic/` | | `base/` |\n"
      "| `third_party/` | | - |\n| `kernels/cpu` | | `base`, `device`, `kernels`; tests: `proto` "
      "|\n");
  EXPECT_THAT(violations,
              ::testing::Contains(HasSubstr("placement: the table says [base, proto]")));
  EXPECT_THAT(violations, ::testing::Contains(HasSubstr("[base, device, kernels; tests: proto]")));
  EXPECT_THAT(violations, ::testing::Contains("rpc is missing in the floor plan table"));
  EXPECT_THAT(violations, ::testing::Contains("attic is in the table but not in floor_plan.cc"));
  EXPECT_THAT(violations, ::testing::Not(::testing::Contains(HasSubstr("third_party"))));
  EXPECT_THAT(violations, ::testing::Not(::testing::Contains(HasSubstr("base:"))));
}

TEST(TokenPathTable, FindsMissingFilesAndNames) {
  const std::string text =
      "## The path of a token\n| Stop | File | Function | What |\n|---|---|---|---|\n"
      "| 1 | `a/a.cc` | `Run`, `Stop` | |\n| 2 | `a/b.cc` | `Run` | |\n| 3 | nowhere | | |\n";
  EXPECT_THAT(CheckTokenPathTable(text, {{"a/a.cc", "void Run(); Stopped();"}}),
              ElementsAre("stop 1: a/a.cc has no Stop", "stop 2: a/b.cc does not exist",
                          HasSubstr("stop 3: wants one")));
  EXPECT_THAT(CheckTokenPathTable("", {}), ElementsAre(HasSubstr("there is no table")));
}

TEST(Links, AreFollowedFromTheFolderOfTheirDocument) {
  const auto exists = [](const std::string& path) { return path == "a/b.md"; };
  EXPECT_THAT(CheckLinks("[x](b.md#part) [y](https://example.com) [z](#here)", "a/c.md", exists),
              IsEmpty());
  EXPECT_THAT(CheckLinks("[x](b.md)", "c.md", exists),
              ElementsAre("c.md: the link to b.md leads nowhere"));
}

}  // namespace
}  // namespace orrery
