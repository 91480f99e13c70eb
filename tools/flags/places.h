// Where the tool finds what comes with it and keeps what it must remember.
#ifndef ORRERY_TOOLS_FLAGS_PLACES_H_
#define ORRERY_TOOLS_FLAGS_PLACES_H_

#include <string>

#include "base/status.h"

namespace orrery {

// Folder of the bundled model, models/abacus: among the data that Bazel put beside this program,
// else below the current folder. NOT_FOUND names both.
absl::StatusOr<std::string> BundledModelDir();

// File in which `up` leaves the router's address for `chat` and the others: .orrery/router in the
// checkout that this program was built from, else in the current folder.
std::string RouterAddressFile();

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_PLACES_H_
