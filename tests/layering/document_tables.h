// The tables of ARCHITECTURE.md that must stay true: the floor plan and the path of a token.
//
//   ## Floor plan                                  ## The path of a token
//   | Folder | What lives there | May include |    | Stop | File | Function | What happens |
//   |---|---|---|                                  |---|---|---|---|
//   | `base/` | words of every day | |             | 1 | `services/attention/step.cc` | `Run` | the spine |
//
// Each function returns its violations, one sentence each; none when all is well.
#ifndef ORRERY_TESTS_LAYERING_DOCUMENT_TABLES_H_
#define ORRERY_TESTS_LAYERING_DOCUMENT_TABLES_H_

#include <string>
#include <string_view>
#include <vector>

#include "tests/layering/layering_rules.h"
#include "tests/layering/source_tree.h"

namespace orrery {

// Cells of the table rows below the heading "## TITLE", heading and ruler left out; empty if there
// is no such table.
std::vector<std::vector<std::string>> TableUnder(std::string_view markdown, std::string_view title);

// What stands between backticks: "`a/`, `b`" -> {"a/", "b"}.
std::vector<std::string> CodeSpans(std::string_view cell);

// The floor plan table says what FloorPlan() says. "everything" stands for all folders; a row may
// name several folders with the same rule.
Violations CheckFloorPlanTable(std::string_view markdown);

// Every file of the path of a token exists and mentions the functions beside it.
Violations CheckTokenPathTable(std::string_view markdown, const SourceTree& tree);

// Relative links, [text](path), that lead nowhere. `exists` is asked with paths from the root.
Violations CheckLinks(std::string_view markdown, const std::string& path,
                      bool (*exists)(const std::string& path));

}  // namespace orrery

#endif  // ORRERY_TESTS_LAYERING_DOCUMENT_TABLES_H_
