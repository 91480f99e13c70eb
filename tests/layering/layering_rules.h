// What the floor plan demands of a source tree. Each function returns its violations, one sentence
// each, beginning with file and line; none when all is well. They are pure, so that layering_test
// can try them on bad trees.
#ifndef ORRERY_TESTS_LAYERING_LAYERING_RULES_H_
#define ORRERY_TESTS_LAYERING_LAYERING_RULES_H_

#include <string>
#include <vector>

#include "tests/layering/source_tree.h"

namespace orrery {

using Violations = std::vector<std::string>;

// Every folder with code or a BUILD file is in the floor plan.
Violations CheckFolders(const SourceTree& tree);

// Every #include "..." starts at the root, exists, and is allowed, as is every library. Visibility
// cannot see a header that another target's deps bring along.
Violations CheckIncludes(const SourceTree& tree);

// Every dependency in a BUILD file is allowed.
Violations CheckBuildDependencies(const SourceTree& tree);

// The package_groups of the top-level BUILD are those of the floor plan, and each package uses its
// own.
Violations CheckVisibility(const SourceTree& tree);

// Every source and header is named by a rule of its package: none is dead, no test is forgotten.
Violations CheckFilesAreBuilt(const SourceTree& tree);

// Every header has the guard ORRERY_PATH_FILE_H_.
Violations CheckIncludeGuards(const SourceTree& tree);

}  // namespace orrery

#endif  // ORRERY_TESTS_LAYERING_LAYERING_RULES_H_
