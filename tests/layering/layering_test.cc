// The sources obey the floor plan, and each rule notices when they do not.
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/layering/floor_plan.h"
#include "tests/layering/layering_rules.h"
#include "tests/layering/source_tree.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const SourceTree& OurTree() {
  static const auto& tree = *new SourceTree(ReadSourceTree(WorkspaceRoot()));
  return tree;
}

void ExpectNone(const Violations& violations) {
  EXPECT_TRUE(violations.empty()) << absl::StrJoin(violations, "\n");
}

TEST(OurTree, IsFound) {
  EXPECT_TRUE(OurTree().count("base/status.h"));
  EXPECT_TRUE(OurTree().count("kernels/kernels.h"));
  EXPECT_TRUE(OurTree().count("tests/layering/layering_test.cc"));
}

TEST(OurTree, HasCodeOnlyInFoldersOfTheFloorPlan) { ExpectNone(CheckFolders(OurTree())); }
TEST(OurTree, IncludesOnlyWhatTheFloorPlanAllows) { ExpectNone(CheckIncludes(OurTree())); }
TEST(OurTree, DependsOnlyOnWhatTheFloorPlanAllows) {
  ExpectNone(CheckBuildDependencies(OurTree()));
}
TEST(OurTree, IsVisibleOnlyWhereTheFloorPlanAllows) { ExpectNone(CheckVisibility(OurTree())); }
TEST(OurTree, BuildsEveryFile) { ExpectNone(CheckFilesAreBuilt(OurTree())); }
TEST(OurTree, HasIncludeGuardsNamedAfterTheirFiles) { ExpectNone(CheckIncludeGuards(OurTree())); }

// The promises behind the table.

TEST(FloorPlan, ServicesNeverSeeEachOther) {
  for (std::string_view from : {"services/router", "services/attention", "services/expert"}) {
    for (std::string_view to : {"services/router", "services/attention", "services/expert"}) {
      if (from == to) continue;
      EXPECT_FALSE(TestMayInclude(*FindFolder(from), to)) << from << " -> " << to;
    }
  }
}

TEST(FloorPlan, RouterAndClientSeeNeitherKernelsNorExchange) {
  for (std::string_view from : {"services/router", "client"}) {
    for (const FolderRule& rule : FloorPlan()) {
      const std::string to(rule.folder);
      const std::string top = to.substr(0, to.find('/'));
      if (top != "kernels" && top != "exchange" && top != "device" && to != "model") continue;
      EXPECT_FALSE(TestMayInclude(*FindFolder(from), to)) << from << " -> " << to;
    }
  }
}

TEST(FloorPlan, KernelsDoNotKnowTheModelAndTheExchangeDoesNotKnowKernels) {
  for (const FolderRule& rule : FloorPlan()) {
    const std::string folder(rule.folder);
    if (folder.rfind("kernels", 0) == 0) {
      EXPECT_FALSE(MayInclude(rule, "checkpoint")) << folder;
      EXPECT_FALSE(MayInclude(rule, "model")) << folder;
    }
    if (folder.rfind("exchange", 0) == 0) {
      EXPECT_FALSE(MayInclude(rule, "kernels")) << folder;
      EXPECT_FALSE(MayInclude(rule, "checkpoint")) << folder;
    }
  }
}

// Folders stand in the order of their layers, so no include can point up or make a circle.
TEST(FloorPlan, PointsOnlyAtFoldersThatStandAboveInTheTable) {
  std::vector<std::string_view> above;
  for (const FolderRule& rule : FloorPlan()) {
    for (std::string_view folder : rule.may_include) {
      EXPECT_THAT(above, ::testing::Contains(folder)) << rule.folder;
    }
    above.push_back(rule.folder);
  }
}

// Seeded violations.

TEST(Folders, UnknownOnesAreFound) {
  EXPECT_THAT(CheckFolders(
                  {{"base/a.h", ""}, {"kernels/metal/a.cc", ""}, {"util/BUILD", ""}, {"x.cc", ""}}),
              ElementsAre(HasSubstr("the root: holds code"), HasSubstr("kernels/metal: holds code"),
                          HasSubstr("util: holds code")));
  EXPECT_THAT(CheckFolders({{"tests/cluster/deep/a.cc", ""}, {"models/abacus/BUILD", ""}}),
              IsEmpty());
}

TEST(IncludeRule, FindsAnIncludeThatPointsUpwards) {
  EXPECT_THAT(CheckIncludes({{"base/a.cc", "\n#include \"kernels/k.h\"\n"}, {"kernels/k.h", ""}}),
              ElementsAre(HasSubstr("base/a.cc:2: base may not include kernels/k.h")));
}

TEST(IncludeRule, FindsAnIncludeBetweenServicesHoweverItIsSpelled) {
  EXPECT_THAT(
      CheckIncludes({{"services/router/a.cc", " #  include   \"services/expert/e.h\"  // why"},
                     {"services/expert/e.h", ""}}),
      ElementsAre(HasSubstr("services/router may not include services/expert/e.h")));
}

TEST(IncludeRule, FindsKernelsInTheRouter) {
  EXPECT_THAT(CheckIncludes({{"services/router/a.cc", "#include \"kernels/kernels.h\""},
                             {"kernels/kernels.h", ""}}),
              ElementsAre(HasSubstr("services/router may not include kernels/kernels.h")));
}

TEST(IncludeRule, FindsImplementationsSeeingEachOther) {
  EXPECT_THAT(CheckIncludes({{"exchange/loopback/a.cc", "#include \"exchange/grpc/g.h\""},
                             {"exchange/grpc/g.h", ""}}),
              ElementsAre(HasSubstr("exchange/loopback may not include exchange/grpc/g.h")));
}

TEST(IncludeRule, GivesUnitTestsTheirOracleButNotTheCode) {
  const SourceTree tree = {{"kernels/cpu/BUILD", "cc_test(name = \"t\", srcs = [\"a_test.cc\"])"},
                           {"kernels/cpu/a_test.cc", "#include \"kernels/reference/r.h\""},
                           {"kernels/cpu/a.cc", "#include \"kernels/reference/r.h\""},
                           {"kernels/reference/r.h", ""}};
  EXPECT_THAT(CheckIncludes(tree), ElementsAre(HasSubstr("kernels/cpu/a.cc:1:")));
}

TEST(IncludeRule, KeepsWhatIsForTestsOutOfTheCode) {
  const std::string build = "cc_library(name = \"fake\", testonly = True, hdrs = [\"fake.h\"])";
  EXPECT_THAT(CheckIncludes({{"rpc/BUILD", build},
                             {"rpc/fake.h", "#include \"nlohmann/json.hpp\""},
                             {"rpc/a.cc", "#include \"rpc/fake.h\""}}),
              ElementsAre(HasSubstr("rpc/a.cc:1: rpc/fake.h is for tests only")));
}

TEST(IncludeRule, FindsMissingAndRelativeFiles) {
  EXPECT_THAT(CheckIncludes({{"base/a.cc", "#include \"base/gone.h\"\n#include \"b.h\"\n"},
                             {"base/b.h", ""}}),
              ElementsAre(HasSubstr("base/gone.h does not exist"),
                          HasSubstr("does not start at the root")));
}

TEST(IncludeRule, KnowsGeneratedHeaders) {
  EXPECT_THAT(
      CheckIncludes({{"rpc/a.cc", "#include \"proto/x.grpc.pb.h\"\n#include \"proto/x.pb.h\""},
                     {"proto/x.proto", ""}}),
      IsEmpty());
  EXPECT_THAT(CheckIncludes({{"rpc/a.cc", "#include \"proto/y.pb.h\""}, {"proto/x.proto", ""}}),
              ElementsAre(HasSubstr("proto/y.pb.h does not exist")));
}

TEST(IncludeRule, ConfinesLibraries) {
  EXPECT_THAT(CheckIncludes({{"kernels/cpu/a.cc", "#include <immintrin.h>\n#include <vector>"}}),
              IsEmpty());
  EXPECT_THAT(CheckIncludes({{"kernels/a.cc", "#include <immintrin.h>"}}),
              ElementsAre(HasSubstr("kernels may not include immintrin.h")));
  EXPECT_THAT(CheckIncludes({{"placement/a.cc", "#include \"grpcpp/server.h\""}}),
              ElementsAre(HasSubstr("placement may not include grpcpp/server.h")));
  EXPECT_THAT(CheckIncludes({{"base/a.cc", "#include \"gtest/gtest.h\""}}),
              ElementsAre(HasSubstr("for tests only")));
}

TEST(BuildRule, FindsForbiddenDependenciesInAnyArgument) {
  const std::string text = R"(
load("//third_party/protobuf:proto.bzl", "proto_cc_library")
# "//kernels" in a comment is nothing.
MORE = ["//exchange"]
cc_library(
    name = "router",
    srcs = ["//services/expert:shard.cc"],
    deps = ["//base", ":x"] + select({
        "//device/cuda:cuda": ["//kernels/cpu:cpu"],
        "//conditions:default": [],
    }),
    data = ["//services/attention"],
)
)";
  EXPECT_THAT(
      CheckBuildDependencies({{"services/router/BUILD", text}}),
      ElementsAre(HasSubstr("BUILD:4: : services/router may not include //exchange"),
                  HasSubstr("BUILD:5: router: services/router may not include //kernels/cpu:cpu"),
                  HasSubstr("may not include //services/expert:shard.cc")));
}

TEST(BuildRule, KnowsTheFilesOfAComprehension) {
  const std::vector<BuildRule> rules = ParseBuild(
      "[cc_test(\n    name = name,\n    srcs = [name + \".cc\"],\n    deps = [\":x\"],\n)"
      " for name in [\"a_test\", \"b_test\"]]\ncc_library(name = \"c\", hdrs = [\"c.h\"])\n");
  ASSERT_EQ(rules.size(), 2u);
  EXPECT_THAT(rules[0].Files(), ElementsAre("a_test.cc", "b_test.cc"));
  EXPECT_THAT(rules[1].Files(), ElementsAre("c.h"));
}

TEST(BuildRule, TellsTestsFromCode) {
  const std::string both = R"(
cc_test(name = "a_test", deps = ["//kernels/reference"])
cc_library(name = "a_testing", testonly = True, deps = ["//kernels/reference"])
cc_library(name = "a", deps = ["//kernels/reference"])
)";
  EXPECT_THAT(
      CheckBuildDependencies({{"kernels/cpu/BUILD", both}}),
      ElementsAre(HasSubstr("BUILD:4: a: kernels/cpu may not include //kernels/reference")));
}

TEST(VisibilityRule, FindsGroupsAndPackagesThatSayOtherwise) {
  const Violations violations = CheckVisibility(
      {{"BUILD",
        "package_group(name = \"users_of_client\", packages = [\"//client\", \"//base\"])"},
       {"client/BUILD", "package(default_visibility = [\"//visibility:public\"])"},
       {"base/BUILD",
        "package(default_visibility = [\"//:users_of_base\"])\n"
        "cc_library(name = \"x\", visibility = [\"//kernels:__pkg__\"])"}});
  EXPECT_THAT(violations,
              ::testing::Contains(HasSubstr("users_of_client has [//base, //client], the floor "
                                            "plan [//client, //tests/..., //tools/...]")));
  EXPECT_THAT(violations, ::testing::Contains(HasSubstr("client/BUILD:1: //visibility:public")));
  EXPECT_THAT(violations, ::testing::Contains(HasSubstr("base/BUILD:2: //kernels:__pkg__")));
  EXPECT_THAT(violations, ::testing::Not(::testing::Contains(HasSubstr("base/BUILD: default"))));
}

TEST(FilesRule, FindsTestsThatNobodyRuns) {
  const std::string build = "cc_library(name = \"a\", hdrs = [\"a.h\"], srcs = [\"part/a.cc\"])";
  EXPECT_THAT(CheckFilesAreBuilt({{"base/BUILD", build},
                                  {"base/a.h", ""},
                                  {"base/part/a.cc", ""},
                                  {"base/a_test.cc", ""}}),
              ElementsAre("base/a_test.cc: no rule of base/BUILD names it"));
}

TEST(GuardRule, FindsMissingAndMisnamedGuards) {
  const std::string good =
      "// What.\n#ifndef ORRERY_BASE_A_B_H_\n#define ORRERY_BASE_A_B_H_\n#endif  // "
      "ORRERY_BASE_A_B_H_\n";
  EXPECT_THAT(CheckIncludeGuards({{"base/a_b.h", good}}), IsEmpty());
  EXPECT_THAT(CheckIncludeGuards({{"base/c.h", good}, {"base/d.h", "#pragma once\n"}}),
              ElementsAre(HasSubstr("base/c.h"), HasSubstr("base/d.h")));
}

}  // namespace
}  // namespace orrery
