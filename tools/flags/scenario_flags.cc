#include "tools/flags/scenario_flags.h"

#include "absl/flags/flag.h"

ABSL_FLAG(
    std::string, scenario, "",
    "of bench serve, a measurement of several phases with targets: batch, stall, tenants, prefix, "
    "overload or disconnect; takes --rounds, all but prefix --concurrency, and all but prefix and "
    "disconnect --duration (of a phase); of chaos, what happens to the cluster: see --list");
ABSL_FLAG(std::string, json_file, "", "where to write the whole result as JSON");
