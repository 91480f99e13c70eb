// Runs golden folders of any kind; see the check_*.h files beside this one.
#ifndef ORRERY_TOOLS_CHECK_CHECK_GOLDEN_H_
#define ORRERY_TOOLS_CHECK_CHECK_GOLDEN_H_

#include <string>

#include "base/status.h"
#include "tools/check/check_model.h"
#include "tools/check/report.h"

namespace orrery {

// The kind of a folder shows in its golden.json, never in its name. Errors are for what could not
// be run.
absl::Status CheckGolden(const std::string& dir, const CheckModelOptions& options, Report& report);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_CHECK_GOLDEN_H_
